#!/bin/sh
# The same as generate_creds.sh in the folder above, for those who look for it here.
set -u

self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -L "$self" ]; do
    target=$(readlink "$self") || exit 2
    case $target in /*) self=$target ;; *) self=${self%/*}/$target ;; esac
done
exec "${self%/*}/../generate_creds.sh" "$@"
