"""Deciding: `decide(pod, observed, now)` is a pure function from what is seen to what is to be done."""

from nsrun.reconcile.backoff import waiting_after
from nsrun.reconcile.decide import decide
from nsrun.reconcile.ledger import begin, fold, request_restart, request_stop
from nsrun.reconcile.settle import settle
from nsrun.reconcile.termination import request_deletion

__all__ = ["begin", "decide", "fold", "request_deletion", "request_restart", "request_stop", "settle", "waiting_after"]
