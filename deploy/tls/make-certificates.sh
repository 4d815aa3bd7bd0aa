#!/usr/bin/env bash
# Makes a certificate authority of your own, and certificates that it signs:
#
#   make-certificates.sh FOLDER NAME [HOST-OR-ADDRESS ...]
#
# FOLDER/ca.pem and ca.key are made once and used again. FOLDER/NAME.pem and NAME.key are for a host that is reached under
# the names and addresses that follow (NAME itself if none does), and serve as a client's certificate too.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
command -v openssl >/dev/null || { echo 'openssl is missing: install it (Debian: apt-get install openssl)' >&2; exit 1; }
folder=$1 name=$2
shift 2
[ $# -gt 0 ] || set -- "$name"

umask 077
mkdir -p "$folder"
# Two jobs that start at the same moment make one authority.
exec 9>"$folder/.lock"
flock 9
if [ ! -e "$folder/ca.pem" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Longhand' \
    -keyout "$folder/ca.key" -out "$folder/ca.pem.part" 2>/dev/null
  mv "$folder/ca.pem.part" "$folder/ca.pem"
fi

names=
for host in "$@"; do
  case $host in
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  case $host in *:*) kind=IP ;; esac
  names=${names:+$names,}$kind:$host
done
work=$(mktemp -d "$folder/make.XXXXXX")
trap 'rm -rf "$work"' EXIT
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" >"$work/extensions"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
  -keyout "$work/key" -out "$work/request" 2>/dev/null
openssl x509 -req -in "$work/request" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial -days 825 \
  -extfile "$work/extensions" -out "$work/certificate" 2>/dev/null
mv "$work/key" "$folder/$name.key"
mv "$work/certificate" "$folder/$name.pem"
