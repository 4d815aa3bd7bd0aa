#!/bin/sh
# Makes words.txt.zst beside it from Debian's package `scowl`: the common words, an empty line, the others.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"
apt-get download scowl
dpkg-deb -x scowl_*.deb .

# All words of lower-case letters in the lists of a size from $1 to $2.
words() {
    for spelling in english american british british_z canadian australian variant_1 british_variant_1; do
        for size in 10 20 35 40 50 55 60 70; do
            list="usr/share/dict/scowl/$spelling-words.$size"
            if [ "$size" -ge "$1" ] && [ "$size" -le "$2" ] && [ -e "$list" ]; then
                LC_ALL=C grep -x '[a-z]*' "$list" || true
            fi
        done
    done | LC_ALL=C sort -u
}

words 10 35 > common
words 40 70 | LC_ALL=C comm -23 - common > others
{ cat common; echo; cat others; } | zstd --ultra -22 > "$here/words.txt.zst"
sed 's/^ *$//' usr/share/doc/scowl/copyright > "$here/words.LICENSE"
