#!/bin/sh
# PID 1 of new PID, mount, network, IPC and UTS namespaces becomes systemd on a copy of this machine that is thrown away:
# https://systemd.io/CONTAINER_INTERFACE. usage: boot.sh DIRECTORY CGROUP REPOSITORY UNIT...
#   DIRECTORY   empty; the machine's root is mounted there
#   CGROUP      an empty cgroup (v2): all that systemd sees of the tree
#   REPOSITORY  shown read-only
#   UNIT...     the only units of this machine's that exist there
# SEED, if it is set: a directory whose content is in /etc there.
set -eu
if [ -z "${BOOT-}" ]; then
	echo 0 >"$2/cgroup.procs"
	# Only now: the root of a cgroup namespace is the cgroup of who makes it.
	BOOT=1 exec unshare --cgroup "$0" "$@"
fi
directory=$1 repository=$3
shift 3
root=$directory/root

mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$root" "$directory/etc" "$directory/work" "$directory/units"
for unit; do
	cp -P "/lib/systemd/system/$unit" "$directory/units/"
done
# This machine's files can be read there. Only /etc is an overlay: pods make overlays of /usr, and those nest twice at most.
mount --bind / "$root"
mount -o remount,bind,ro "$root"
mount -t overlay -o "lowerdir=/etc,upperdir=$directory/etc,workdir=$directory/work" overlay "$root/etc"

# Not one of this machine's services, generators or settings, and room for what is written.
for path in /etc/systemd /lib/systemd/system-generators /lib/systemd/system-environment-generators /etc/tmpfiles.d \
	/lib/systemd/system /run /tmp /var/lib /var/log /usr/local/bin /dev; do
	mkdir -p "$root$path"
	mount -t tmpfs -o mode=755 tmpfs "$root$path"
done
mkdir -p "$root$repository"
mount --bind "$repository" "$root$repository"
mount -o remount,bind,ro "$root$repository"
mkdir "$root/etc/systemd/system"
ln -s "$repository/.venv/bin/nsrun" "$root/usr/local/bin/nsrun"
cp -P "$directory/units/"* "$root/lib/systemd/system/"
: >"$root/etc/fstab"
[ -z "${SEED-}" ] || cp -a "$SEED/." "$root/etc/"
mkdir "$root/lib/systemd/system/sysinit.target.wants"
ln -s ../systemd-journald.service "$root/lib/systemd/system/sysinit.target.wants/"
# What runs there dies with its PID 1; nobody waits for it.
printf '[Manager]\nDefaultTimeoutStopSec=5s\n' >"$root/etc/systemd/system.conf"

# proc and sysfs show these namespaces; of the settings that belong to the whole machine none can be written.
mount -t proc proc "$root/proc"
for path in sys/abi sys/debug sys/dev sys/fs sys/kernel sys/vm sysrq-trigger irq bus; do
	[ -e "$root/proc/$path" ] || continue
	mount --bind "$root/proc/$path" "$root/proc/$path"
	mount -o remount,bind,ro "$root/proc/$path"
done
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
	mknod -m 666 "$root/dev/${node%%:*}" c $(echo "${node#*:}" | tr : ' ')
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

echo booted >$root/etc/hostname
cd "$root"
mkdir run/old-root
pivot_root . run/old-root
exec chroot . /bin/sh -euc 'umount -l /run/old-root; rmdir /run/old-root
exec setpriv --bounding-set -sys_time,-sys_module,-sys_rawio env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no' <dev/null
