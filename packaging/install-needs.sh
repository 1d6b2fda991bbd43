#!/bin/sh
# Installs what a make target needs and this machine lacks. Nothing missing: says nothing, does
# nothing. Something missing: prints the exact line, asks, and runs it on yes.
#
#   packaging/install-needs.sh build|demo|test|vm|fuzz
#   ASSAY_INSTALL=1    answers yes (continuous integration, container builds)
#
# It knows Debian's names (and those of its kin). Elsewhere it prints what to look for and stops.
set -eu

purpose=${1:?usage: install-needs.sh build|demo|test|vm|fuzz}

# One line a package: name, and how to tell that it is here already, whoever put it here.
lacks() {
    case $1 in
    gcc)             ! command -v cc ;;
    g++)             ! command -v c++ ;;
    libc6-dev)       [ ! -e /usr/include/stdio.h ] ;;
    pkg-config)      ! command -v pkg-config ;;
    ca-certificates) [ ! -e /etc/ssl/certs/ca-certificates.crt ] ;;
    libtss2-dev)     ! pkg-config --exists tss2-esys tss2-mu tss2-tctildr ;;
    swtpm)           ! command -v swtpm ;;
    swtpm-tools)     ! command -v swtpm_setup ;;
    tpm2-tools)      ! command -v tpm2_quote ;;
    openssl)         ! command -v openssl ;;
    qemu-system-x86) ! command -v qemu-system-x86_64 ;;
    ovmf)            [ ! -e /usr/share/OVMF/OVMF_CODE_4M.fd ] ;;
    mtools)          ! command -v mformat ;;
    busybox-static)  ! command -v busybox ;;
    binutils)        ! command -v objcopy ;;
    systemd-boot-efi) [ ! -e /usr/lib/systemd/boot/efi/linuxx64.efi.stub ] ;;
    python3-venv)    ! python3 -c 'import ensurepip, venv' ;;
    esac >/dev/null 2>&1
}

# Building: a C compiler for the libraries in C, the TPM software stack to link against.
needs="gcc libc6-dev pkg-config ca-certificates libtss2-dev"
case $purpose in
build) ;;
# Software TPMs to run on, openssl to verify the chain with a second pair of eyes.
demo)  needs="$needs swtpm swtpm-tools openssl" ;;
# Foreign clients: tpm2-tools as a second TPM stack, Python for a second SPIFFE library.
test)  needs="$needs swtpm swtpm-tools openssl tpm2-tools python3-venv" ;;
# Machines in software: firmware, boot stub, tools for disk images, a shell without libraries.
vm)    needs="$needs swtpm swtpm-tools qemu-system-x86 ovmf mtools busybox-static binutils"
       needs="$needs systemd-boot-efi" ;;
# The fuzzing engine is C++.
fuzz)  needs="$needs g++" ;;
*)     echo "install-needs.sh: unknown purpose \`$purpose\`" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null 2>&1; then
    echo "error: no cargo: Assay is built with Rust 1.90 or newer (https://rustup.rs)" >&2
    exit 1
fi

missing=
for package in $needs; do
    if lacks "$package"; then missing="$missing $package"; fi
done
[ -n "$missing" ] || exit 0

[ "$purpose" != vm ] || purpose=test-vm
echo "\`make $purpose\` needs what this machine lacks:$missing" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: no apt-get here; these are Debian's names, install their like and try again" >&2
    exit 1
fi

line="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    run="$line"
elif command -v sudo >/dev/null 2>&1; then
    run="sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing"
else
    echo "run as root, then try again:" >&2
    echo "    $line" >&2
    exit 1
fi
echo "    $run" >&2

if [ "${ASSAY_INSTALL:-}" != 1 ]; then
    if [ ! -t 0 ]; then
        echo "not run: nobody is here to ask (ASSAY_INSTALL=1 answers yes)" >&2
        exit 1
    fi
    printf 'run it now? [y/N] ' >&2
    read -r answer || answer=
    case $answer in
    y | Y | yes) ;;
    *) echo "not run" >&2; exit 1 ;;
    esac
fi
DEBIAN_FRONTEND=noninteractive sh -c "$run" >&2
