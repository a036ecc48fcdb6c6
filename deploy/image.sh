#!/usr/bin/env bash
# Builds the container image without a daemon and without a registry: an OCI archive for `ctr image import`, `podman load`
# or `skopeo copy`. The same sources and packages give the same bytes.
set -euo pipefail
umask 022

usage() {
  cat <<'EOT'
Usage: deploy/image.sh [--output FILE] [--name NAME]

  --output FILE   the archive (default build/image/flannel-ts.tar)
  --name NAME     name and tag of the image (default localhost/flannel-ts:VERSION)

It prints sizes and the time of `flanneld --version`. Times in the image are SOURCE_DATE_EPOCH, by default that of the
last commit. The unpacked image is left in build/image/root.
EOT
}

die() {
  printf 'image.sh: %s\n' "$*" >&2
  exit 1
}

sum_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

# blob FILE: moves it among the blobs, and prints its digest.
blob() {
  local digest
  digest=$(sum_of "$1")
  mv -f "$1" "$work/oci/blobs/sha256/$digest"
  printf '%s' "$digest"
}

# plain_tar SECONDS FOLDER NAME...: a tar file without anything of the machine it was made on.
plain_tar() {
  tar -c -C "$2" --sort=name --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --owner=0 --group=0 \
    --mtime="@$1" "${@:3}"
}

# layer FOLDER SECONDS: FOLDER.tar.gz and, in FOLDER.sum, the digest of its contents.
layer() {
  plain_tar "$2" "$work/$1" . >"$work/$1.tar"
  sum_of "$work/$1.tar" >"$work/$1.sum"
  gzip -nf "$work/$1.tar"
}

# Registries and nodes keep the lower layer as long as its bytes are the same: its times are no commit's.
layers() {
  local name
  if [[ ! -e $work/base.layer || $(<"$work/base.layer") != "$(<"$work/base.key")" ]]; then
    layer base 0
    cp "$work/base.key" "$work/base.layer"
  fi
  layer agent "$SOURCE_DATE_EPOCH"
  for name in base agent; do
    contents+=("$(<"$work/$name.sum")")
    cp "$work/$name.tar.gz" "$work/layer"
    layers+=("$(blob "$work/layer")")
  done
}

size_of() { stat -c %s "$work/oci/blobs/sha256/$1"; }
# json FORMAT ARGUMENT...: a file that becomes a blob; prints its digest.
json() {
  # shellcheck disable=SC2059
  printf "$@" >"$work/blob.json"
  blob "$work/blob.json"
}

config() {
  json '{"architecture":"%s","os":"linux","created":"%s","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":["/usr/bin/flanneld"],"Labels":{"org.opencontainers.image.title":"flannel-ts","org.opencontainers.image.version":"%s","org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]},"history":[{"created":"%s","created_by":"Debian packages and Node.js"},{"created":"%s","created_by":"flannel-ts"}]}' \
    "$architecture" "$created" "$version" "${contents[@]}" "$created" "$created"
}

manifest() {
  local type=application/vnd.oci.image
  json '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"%s.layer.v1.tar+gzip","digest":"sha256:%s","size":%s},{"mediaType":"%s.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
    "$type" "$type" "$1" "$(size_of "$1")" \
    "$type" "${layers[0]}" "$(size_of "${layers[0]}")" "$type" "${layers[1]}" "$(size_of "${layers[1]}")"
}

archive() {
  local digest=$1
  printf '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
    "$digest" "$(size_of "$digest")" "$architecture" "$name" "${name##*:}" >"$work/oci/index.json"
  plain_tar "$SOURCE_DATE_EPOCH" "$work/oci" blobs index.json oci-layout >"$output.new"
  mv -fT "$output.new" "$output"
}

# The layers on top of each other, sharing their files.
unpacked() {
  rm -rf "$work/root"
  cp -al "$work/base" "$work/root"
  cp -al "$work/agent/." "$work/root"
}

start_time() {
  local began=${EPOCHREALTIME/./}
  chroot "$work/root" /usr/bin/flanneld --version >/dev/null
  printf '%s' $(((${EPOCHREALTIME/./} - began) / 1000))
}

report() {
  printf 'image:    %s\narchive:  %s (%s MB, unpacked %s MB)\n' "$name" "$output" \
    $(($(stat -c %s "$output") / 1000000)) "$(du -s --block-size=1000000 "$work/root" | cut -f 1)"
  if [[ $EUID -ne 0 ]]; then return; fi
  start_time >/dev/null
  printf 'start:    %s ms (flanneld --version)\n' "$(start_time)"
}

tree=$(cd -P -- "${BASH_SOURCE[0]%/*}/.." && pwd -P)
work=$tree/build/image
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$tree/package.json")
output=$work/flannel-ts.tar
name=localhost/flannel-ts:$version
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help)
      usage
      exit
      ;;
    --output | --name)
      [[ ${2-} ]] || die "$1 needs a value"
      if [[ $1 == --output ]]; then output=$(realpath -m "$2"); else name=$2; fi
      shift
      ;;
    *) die "unknown argument: $1 (see --help)" ;;
  esac
  shift
done
[[ $name =~ ^[a-z0-9./_:-]+:[A-Za-z0-9._-]+$ ]] || die "--name $name: expected NAME:TAG"

: "${SOURCE_DATE_EPOCH:=$(git -C "$tree" log -1 --format=%ct 2>/dev/null || echo 0)}"
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) die "there is no Node.js for $(uname -m)" ;;
esac
layers=()
contents=()
mkdir -p "$work"
# Two builds at once would take away each other's folders.
exec 9>"$work/.lock"
flock 9
rm -rf "$work/oci"
mkdir -p "$work/oci/blobs/sha256"
"$tree/deploy/rootfs.sh" "$work"
layers
archive "$(manifest "$(config)")"
rm -rf "$work/oci"
unpacked
report
