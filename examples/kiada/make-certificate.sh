#!/bin/sh
# Makes a certificate for localhost and kiada.example, and keeps it as the Secret kiada-tls. usage: make-certificate.sh DIRECTORY
set -eu

mkdir -p "${1:?usage: make-certificate.sh DIRECTORY}"
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=kiada.example -addext subjectAltName=DNS:localhost,DNS:kiada.example,IP:127.0.0.1 \
	-keyout "$1/tls.key" -out "$1/tls.crt" 2>/dev/null
nsrun object apply - <<END
apiVersion: v1
kind: Secret
metadata: { name: kiada-tls }
type: kubernetes.io/tls
data:
  tls.crt: $(base64 -w0 "$1/tls.crt")
  tls.key: $(base64 -w0 "$1/tls.key")
END
# The key's place is the Secret, which is in memory alone.
rm "$1/tls.key"
