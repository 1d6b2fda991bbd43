#!/bin/sh
# Fetches what the machines of `make test-vm` boot: two versions of Debian's cloud kernel, shim and
# GRUB. Packages are downloaded and unpacked into the given folder, nothing is installed; what is
# there already stays.
#
#   packaging/fetch-vm-parts.sh target/vm
#
#   FOLDER/current     the kernel that Debian's linux-image-cloud-amd64 stands for
#   FOLDER/previous    the newest one before it that the archive still has: for the update
#   FOLDER/shim-grub   shim and GRUB as Debian signs them
set -eu

folder=${1:?usage: fetch-vm-parts.sh FOLDER}
mkdir -p "$folder"
cd "$folder"

# unpack NAME PACKAGE…: into the folder NAME; whole or not at all.
unpack() {
    name=$1
    shift
    [ ! -d "$name" ] || return 0
    rm -rf "$name.part"
    mkdir "$name.part"
    for package; do
        echo "fetching $package" >&2
        (cd "$name.part" && apt-get -q download "$package" >/dev/null 2>&1) || {
            echo "cannot download $package (apt-get update?)" >&2
            return 1
        }
        for archive in "$name.part"/*.deb; do
            dpkg -x "$archive" "$name.part"
            rm "$archive"
        done
    done
    printf '%s\n' "$@" >"$name.part/packages"
    mv "$name.part" "$name"
}

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg >/dev/null 2>&1; then
    echo "no apt-get and dpkg here: the tests will say what they lack" >&2
    exit 0
fi

current=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
if [ -n "$current" ]; then
    unpack current "$current"
    series=$(echo "$current" | sed 's/^\(linux-image-[0-9]*\.[0-9]*\).*/\1/')
    previous=$(apt-cache pkgnames "$series" | grep -E -- '-cloud-amd64$' |
        sort -V | grep -Fx -B 1 -- "$current" | head -n 1)
    if [ -n "$previous" ] && [ "$previous" != "$current" ]; then
        unpack previous "$previous"
    fi
else
    echo "apt knows no linux-image-cloud-amd64 (apt-get update?)" >&2
fi
unpack shim-grub shim-signed grub-efi-amd64-signed || true
