#!/usr/bin/env bash
# The root of the container image, in two folders that become its layers: `base`, the Debian packages and Node.js, which
# seldom change, and `agent`. Used by Dockerfile and image.sh alike, on Debian 12. What `base` was made of stands in
# DIR/base.key: it is made again only when that changes.
set -euo pipefail
umask 022

# C library and shell; what Node.js is linked with; nft and libnftables, which look protocols up by name (netbase); the
# iptables of both kinds, for rules in a FORWARD chain that drops. Node.js brings its own certificates.
PACKAGES=(libc6 dash
  libatomic1 libgcc-s1 libstdc++6
  libnftables1 nftables libnftnl11 libmnl0 libgmp10 libjansson4 libedit2 libbsd0 libmd0 libtinfo6 netbase
  iptables libxtables12 libip4tc2 libip6tc2 libnetfilter-conntrack3 libnfnetlink0)
# Documentation but for licences, translations, character sets, and the programs of packages that are here for a library.
LEFT_OUT=(./usr/share/man ./usr/share/info ./usr/share/locale ./usr/share/lintian ./usr/share/bug ./usr/share/menu
  './usr/share/doc/*/[!c]*' './usr/share/doc/*/changelog*' './usr/lib/*/gconv' ./usr/lib/locale ./usr/share/gdb
  ./usr/share/nftables ./etc/init.d ./lib/systemd)

usage() {
  cat <<'EOT'
Usage: deploy/rootfs.sh DIR    makes DIR/base and DIR/agent; Debian packages are kept in build/packages
EOT
}

die() {
  printf 'rootfs.sh: %s\n' "$*" >&2
  exit 1
}

# Exit code of its own: nothing is wrong here, but for the way to Debian's packages.
unobtainable() {
  printf 'rootfs.sh: %s\n' "$*" >&2
  exit 3
}

# look_up: the file names of the packages, as the lists of apt have them, go into `files`. Whether all are known.
look_up() {
  # In another folder: apt says nothing of what it finds in the current one.
  mapfile -t files < <(cd / && apt-get --print-uris download "${PACKAGES[@]}" | awk '/^.https?:/ { print $2 }')
  [[ ${#files[@]} -eq ${#PACKAGES[@]} ]]
}

resolve() {
  look_up && return
  apt-get -q update >&2 || unobtainable 'the list of packages can not be updated'
  look_up || unobtainable 'apt does not know all packages: check its sources'
}

# Each package is downloaded once.
fetch() {
  local file missing=()
  mkdir -p "$cache"
  for file in "${files[@]}"; do [[ -e $cache/$file ]] || missing+=("${file%%_*}"); done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  (cd "$cache" && apt-get -q -o APT::Sandbox::User=root download "${missing[@]}" >&2) ||
    unobtainable "packages can not be downloaded: ${missing[*]}"
}

unpack() {
  local name file excludes=()
  for name in bin sbin lib lib64; do
    mkdir -p "$base/usr/$name"
    ln -s "usr/$name" "$base/$name"
  done
  for name in "${LEFT_OUT[@]}"; do excludes+=(--exclude "$name"); done
  for file in "${files[@]}"; do
    name=${file%%_*} file=$cache/$file
    dpkg-deb --fsys-tarfile "$file" | tar -x -C "$base" --keep-directory-symlink --no-same-owner --wildcards "${excludes[@]}"
    # What scanners of images read.
    mkdir -p "$base/var/lib/dpkg/status.d"
    dpkg-deb -f "$file" >"$base/var/lib/dpkg/status.d/$name"
  done
  # Only those whose chains are reached for; the alternatives of Debian are not set up here.
  for name in iptables ip6tables; do ln -sf "$name-nft" "$base/usr/sbin/$name"; done
}

# Mount points, and the files that every program expects. /var/run is a folder of its own: on some hosts it is one.
furnish() {
  mkdir -p "$base"/{dev,proc,sys,tmp,run/netns,var/run/netns,var/lib/cni,var/lib/flannel,etc/cni/net.d,opt/cni/bin,root}
  chmod 1777 "$base/tmp"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$base/etc/passwd"
  printf 'root:x:0:\n' >"$base/etc/group"
  printf 'hosts: files dns\nprotocols: files\nservices: files\n' >"$base/etc/nsswitch.conf"
  install -D -m 644 /usr/lib/os-release "$base/usr/lib/os-release"
  ln -sf ../usr/lib/os-release "$base/etc/os-release"
}

# Node.js changes with package-lock.json only: it goes below the agent. Its symbols are for debuggers.
add_node() {
  local path=$1 node
  mkdir -p "$base/$path"
  cp -R "$agent/$path"/node-linux-* "$base/$path/"
  for node in "$base/$path"/node-linux-*/bin/node; do strip --strip-all "$node"; done
}

make_base() {
  local modules=usr/lib/flannel-ts/node_modules key
  resolve
  key=$(printf '%s\n' "${files[@]}" | cat - "${BASH_SOURCE[0]}" "$agent/$modules"/node-linux-*/package.json | sha256sum)
  if [[ ! -e $target/base.key || $(<"$target/base.key") != "$key" ]]; then
    rm -rf "$base" "$target/base.key"
    mkdir -p "$base"
    fetch
    unpack
    furnish
    add_node "$modules"
    printf '%s\n' "$key" >"$target/base.key"
  fi
  rm -rf "$agent/$modules"/node-linux-*
}

case ${1-} in
  -h | --help)
    usage
    exit
    ;;
  '') die 'a directory is needed (see --help)' ;;
esac

tree=$(cd -P -- "${BASH_SOURCE[0]%/*}/.." && pwd -P)
cache=$tree/build/packages
target=$(realpath -m "$1")
base=$target/base
files=()
agent=$target/agent
grep -q '^VERSION_CODENAME=bookworm$' /usr/lib/os-release || die 'Debian 12 is needed: its packages are what the image is made of'
rm -rf "$agent"
mkdir -p "$agent"
"$tree/install.sh" agent "$agent" >&2
make_base
