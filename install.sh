#!/usr/bin/env bash
# Sets up this source tree (deps), installs flannel-ts on a host or into a tree, and takes it away again.
#
# Everything an installation puts down is recorded in var/lib/flannel-ts (manifest, and saved/ with the files it
# replaced) before it happens, so that uninstall also works after an installation that was interrupted.
set -euo pipefail
umask 022

RUN_PACKAGES=(libnftables1 nftables)
BUILD_PACKAGES=(g++ gcc libc6-dev linux-libc-dev make python3)
# Nobody has to have these; they come along when others are installed.
WELCOME_PACKAGES=(musl-tools)
TEST_PACKAGES=(containernetworking-plugins conntrack curl etcd-client etcd-server ethtool hostname iperf3 iproute2 iptables
  iputils-ping mount openssl procps strace tcpdump util-linux)
# For the nodes of test/kubelet.
KUBELET_PACKAGES=(busybox-static containerd runc)
# The names under which container runtimes execute the one client.
CNI_NAMES=(flannel flannel-ipam flannel-portmap flannel-bandwidth)

usage() {
  cat <<'EOF'
Usage: ./install.sh deps [--kubelet]     set up this source tree: Debian packages, node_modules, build/bin
       ./install.sh [OPTION]...          install on this host
       ./install.sh uninstall [OPTION]   take exactly that away again
       ./install.sh agent DIR            put the agent alone into the tree DIR, as a container image has it

Options:
  --root DIR            install into the tree DIR instead of /
  --cni-bin-dir PATH    where the CNI executables go (default /opt/cni/bin)
  --cni-conf-dir PATH   where the CNI list goes (default /etc/cni/net.d)
  --kubelet             with deps: also what tests with kubelets need, containerd and runc
  -h, --help            show this text

What is put there: the program in /usr/lib/flannel-ts, /usr/bin/flanneld, the CNI executables flannel, flannel-ipam,
flannel-portmap and flannel-bandwidth, 10-flannel.conflist, /etc/flannel/net-conf.json (unless there is one) and a
systemd unit.
A file that is replaced is saved, and put back by uninstall. Run `flanneld cleanup` before uninstall to remove
what the agent has set up in the kernel.
EOF
}

say() { printf '%s\n' "$*"; }
die() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

# run WHAT ADVICE COMMAND...: says what, runs the command quietly, shows its output only when it fails.
run() {
  local what=$1 advice=$2 output status
  shift 2
  say "$what"
  # As a condition of `if` the command would run without -e.
  set +e
  output=$(
    set -e
    "$@" 2>&1 </dev/null
  )
  status=$?
  set -e
  [[ $status -eq 0 ]] && return
  tail -n 40 <<<"$output" >&2
  die "failed: $what; $advice"
}

# ---- deps: packages, node_modules, build/bin ------------------------------------------------------------------------

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@"; }

# A package's services must not start because it was installed for tests; policy-rc.d is Debian's way to say so.
apt_without_services() {
  local policy=/usr/sbin/policy-rc.d made=''
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=$policy
  fi
  local status=0
  apt install --no-install-recommends "$@" || status=$?
  if [[ $made ]]; then rm -f "$made"; fi
  return "$status"
}

packages() {
  local name missing=() have
  if ! command -v dpkg-query >/dev/null; then
    say "packages: not a Debian system; make sure that it has the equivalents of: $*"
    return
  fi
  have=" $(dpkg-query -W -f '${Package}:${db:Status-Status} ' "$@" 2>/dev/null || true)"
  for name; do
    [[ $have == *" $name:installed "* ]] || missing+=("$name")
  done
  if [[ ${#missing[@]} -eq 0 ]]; then
    say "packages: all $# are there"
    return
  fi
  [[ $EUID -eq 0 ]] || die "packages are missing, and only root can install them: apt-get install ${missing[*]}"
  run 'packages: updating the list' 'check the network and the sources of apt' apt update
  missing+=("${WELCOME_PACKAGES[@]}")
  run "packages: installing ${missing[*]}" 'run apt-get install with these names to see more' \
    apt_without_services "${missing[@]}"
}

# The one native package that has no prebuilt binary. node-gyp is ours, not npm's, and the headers are those of the
# Node that will load it, so that neither the npm nor the Node of this machine matters, and nothing is downloaded.
build_raw_socket() {
  local home=${node%/bin/node}
  # Under `npm run` the user's npm settings are in the environment, where node-gyp prefers them to its own flags.
  unset "${!npm_config_@}" "${!npm_package_config_@}"
  PATH="$tree/node_modules/.bin:$PATH" "$node" "$tree/node_modules/node-gyp/bin/node-gyp.js" rebuild \
    --directory "$tree/node_modules/raw-socket" --nodedir "$home"
}

load_native_packages() {
  cd "$tree"
  "$node" -e 'for (const name of ["koffi", "netlink", "raw-socket"]) require(name)'
}

find_node() {
  local candidate
  for candidate in "$tree"/node_modules/node-linux-*/bin/node; do
    if [[ -x $candidate ]]; then
      node=$candidate
      return
    fi
  done
  return 1
}

modules() {
  local stamp=$tree/node_modules/.flannel-ts-stamp want
  want="$(sha256sum <"$tree/package-lock.json") $(uname -m)"
  if [[ -f $stamp && $(<"$stamp") == "$want" ]] && find_node; then
    say 'node_modules: up to date'
    return
  fi
  command -v npm >/dev/null || die 'npm is missing: install Node.js with npm (Debian: apt-get install npm)'
  run 'node_modules: npm ci' 'check the network and the configuration of npm' \
    npm --prefix "$tree" ci --ignore-scripts --include=dev --include=optional --no-audit --no-fund --loglevel=error
  find_node || die "there is no Node 26 for $(uname -m) among the optional dependencies in package.json"
  run 'node_modules: building raw-socket' 'see the compiler messages above' build_raw_socket
  run 'node_modules: loading the native packages' 'remove node_modules and run ./install.sh deps again' \
    load_native_packages
  printf '%s\n' "$want" >"$stamp"
}

# How the agent's Node.js is run: it lives for months, so memory counts more than the time that collecting takes. A small
# young generation, and one malloc arena instead of eight for each processor; flanneld/memory.ts has the rest, since with
# most other flags Node.js can't use what V8 made of its own modules when it was built, and compiles them at each start.
# Eight threads of libuv: most of them wait in kernel/remove-links.ts.
MEMORY_FLAGS='--max-semi-space-size=2'

# launcher PROGRAM UP: the text of an executable that runs PROGRAM of the folder UP, relative to the executable.
launcher() {
  cat <<EOF
#!/bin/sh
# Runs $1 with the Node.js that lies beside it. The folder is found from this file's own place.
export MALLOC_ARENA_MAX=1 UV_THREADPOOL_SIZE=8
self=\$0
case \$self in */*) ;; *) self=./\$self ;; esac
[ ! -L "\$self" ] || self=\$(command -p readlink -f -- "\$self")
root=\$(CDPATH= cd -P -- "\${self%/*}/$2" && pwd -P)
for node in "\$root"/node_modules/node-linux-*/bin/node; do
  [ -x "\$node" ] && exec "\$node" $MEMORY_FLAGS "\$root/$1" "\$@"
done
echo "\$0: no Node.js in \$root/node_modules; run install.sh again" >&2
exit 127
EOF
}

# The temporary file that becomes FILE by rename.
beside() { printf '%s' "${1%/*}/.${1##*/}.flannel-ts"; }

# put TEXT MODE FILE: a file whole, by a temporary file and rename; left alone when it is right already.
put() {
  local text=$1 mode=$2 file=$3 temporary
  temporary=$(beside "$3")
  printf '%s\n' "$text" >"$temporary"
  chmod "$mode" "$temporary"
  mv -fT "$temporary" "$file"
}

# compile SOURCE EXECUTABLE: one static executable, which runs in whatever mount namespace it is executed in.
compile() {
  "${CC[@]}" -std=gnu11 -O2 -Wall -Wextra -static -s -o "$2" "$1"
}

# The compiler for what is executed again and again. The GNU C library begins by asking the processor what it can do, which
# a hypervisor has to answer: with musl, the process is there and gone in a third of the time.
quick_cc() {
  if command -v musl-gcc >/dev/null; then
    # It has no headers of the kernel.
    CC=(musl-gcc -idirafter /usr/include -idirafter "/usr/include/$(gcc -print-multiarch)")
  else
    CC=(cc)
  fi
}

# build_program NAME SOURCE: build/bin/NAME, when anything beside its source is newer.
build_program() {
  local executable=$tree/build/bin/$1 source=$tree/$2
  [[ ! -e $executable || $(find "$source" "${source%.c}" "$tree/install.sh" -newer "$executable" 2>/dev/null) ]] || return 0
  mkdir -p "$tree/build/bin"
  run "build/bin: compiling $1" 'see the compiler messages above' compile "$source" "$tree/build/bin/.$1"
  mv -fT "$tree/build/bin/.$1" "$executable"
}

build_programs() {
  local bin=$tree/build/bin name
  local CC
  quick_cc
  build_program flannel cni-plugin/client.c
  CC=(cc)
  build_program udp-proxy flanneld/backend/udp-proxy.c
  for name in "${CNI_NAMES[@]:1}"; do
    [[ $bin/$name -ef $bin/flannel ]] || ln -f "$bin/flannel" "$bin/$name"
  done
}

build_bin() {
  build_programs
  put "$(launcher flanneld/main.ts ../..)" 755 "$tree/build/bin/flanneld"
  say "build/bin: ${CNI_NAMES[*]} flanneld udp-proxy"
}

deps() {
  packages "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
  mkdir -p "$tree/build"
  # Two runs at once would tear down each other's node_modules.
  exec 9>"$tree/build/.lock"
  if command -v flock >/dev/null; then flock 9; fi
  modules
  build_bin
}

# ---- the record of an installation ----------------------------------------------------------------------------------
#
# manifest, a line each, separated by tabs, paths relative to the root:
#   dir    -      PATH   a folder that was made
#   tree   -      PATH   a folder that is ours with all it holds
#   file   SHA256 PATH   a file that was put; one line for every content it ever had
#   saved  N      PATH   what was there before lies in saved/N

note() {
  local line
  line=$(printf '%s\t%s\t%s' "$@")
  grep -qxF -- "$line" "$state/manifest" 2>/dev/null || printf '%s\n' "$line" >>"$state/manifest"
}

# noted KIND PATH: the middle columns of its lines.
noted() {
  [[ -f $state/manifest ]] || return 0
  awk -F '\t' -v kind="$1" -v path="$2" '$1 == kind && $3 == path { print $2 }' "$state/manifest"
}

exists() { [[ -e $1 || -L $1 ]]; }
sum_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

# Whether the file at PATH is as an installation of ours left it.
unchanged() {
  [[ -f $root/$1 && ! -L $root/$1 ]] && noted file "$1" | grep -qxF "$(sum_of "$root/$1")"
}

make_dir() {
  local path=$1 made=()
  while [[ $path && $path != . && ! -d $root/$path ]]; do
    made+=("$path")
    [[ $path == */* ]] && path=${path%/*} || path=''
  done
  mkdir -p "$state"
  for path in ${made[@]+"${made[@]}"}; do note dir - "$path"; done
  mkdir -p "$root/$1"
}

save() {
  local path=$1 number
  number=$(find "$state/saved" -mindepth 1 -maxdepth 1 | wc -l)
  cp -a -- "$root/$path" "$state/saved/$number"
  note saved "$number" "$path"
  say "saved:     /$path"
}

# make_way SUM PATH: what stands at PATH is saved, and that a file with this sum is put there is noted.
make_way() {
  local sum=$1 path=$2
  [[ ! -d $root/$path ]] || die "/$path is a directory"
  make_dir "${path%/*}"
  if exists "$root/$path" && ! unchanged "$path" && [[ ! $(noted saved "$path") ]]; then save "$path"; fi
  note file "$sum" "$path"
}

# place TEXT MODE PATH
place() {
  local text=$1 mode=$2 path=$3
  make_way "$(printf '%s\n' "$text" | sha256sum | cut -d ' ' -f 1)" "$path"
  put "$text" "$mode" "$root/$path"
  say "installed: /$path"
}

# place_client: one file under all its names, each by a rename, since a runtime may be executing the old one.
place_client() {
  local name sum first temporary
  sum=$(sum_of "$tree/build/bin/flannel")
  first=$root/$cni_bin/${CNI_NAMES[0]}
  for name in "${CNI_NAMES[@]}"; do
    make_way "$sum" "$cni_bin/$name"
    temporary=$(beside "$root/$cni_bin/$name")
    rm -f -- "$temporary"
    if [[ $name == "${CNI_NAMES[0]}" ]]; then install -m 755 "$tree/build/bin/flannel" "$temporary"; else ln "$first" "$temporary"; fi
    mv -fT "$temporary" "$root/$cni_bin/$name"
    say "installed: /$cni_bin/$name"
  done
}

# ---- install --------------------------------------------------------------------------------------------------------

PROGRAM=usr/lib/flannel-ts

# Paths of the packages that the program needs, from the lock file.
production_packages() {
  "$node" -e 'const { packages } = JSON.parse(fs.readFileSync("package-lock.json"));
    for (const [path, entry] of Object.entries(packages))
      if (path.lastIndexOf("node_modules/") === 0 && !entry.dev && fs.existsSync(path)) console.log(path)'
}

# bundle FOLDER: the agent in FOLDER/bundle, as one script and what V8 makes of it, which starts in a third of the time and
# half of the memory that stripping the types of hundreds of files takes. Packages with native parts stay outside. etcd3
# asks for its definitions beside its own folder.
bundle() {
  local esbuild=("$node" node_modules/esbuild/bin/esbuild --bundle --platform=node --format=cjs --target=node26 --minify
    --log-level=warning)
  "${esbuild[@]}" flanneld/main.ts --outfile="$1/bundle/agent.js" --external:koffi --external:raw-socket \
    --define:import.meta.url=__url --banner:js='(function (require, __dirname, __url) {' --footer:js='})'
  "${esbuild[@]}" bundle/main.ts --outfile="$1/bundle/main.cjs" --define:import.meta.dirname=__dirname
  "$node" $MEMORY_FLAGS --random-seed=1 bundle/compile.ts "$1/bundle"
  cp -R -- node_modules/etcd3/proto "$1/proto"
}

copy_program() {
  local new=$1 path
  mkdir -p "$new/node_modules"
  cd "$tree"
  for path in model kernel ipam cni-plugin flanneld package.json LICENSE; do
    [[ ! -e $path ]] || cp -R -- "$path" "$new/"
  done
  bundle "$new"
  install -D -m 755 -t "$new/build/bin" build/bin/udp-proxy build/bin/flannel
  production_packages | copy_packages "$new"
  chmod -R u=rwX,go=rX "$new"
}

# copy_packages FOLDER: those whose paths are read, without what only their making needs.
copy_packages() {
  local new=$1 path
  while read -r path; do
    mkdir -p "$new/${path%/*}"
    case $path in
      node_modules/node-linux-*)
        mkdir -p "$new/$path/bin"
        cp -- "$path/package.json" "$path/LICENSE" "$new/$path/"
        cp -- "$path/bin/node" "$new/$path/bin/"
        ;;
      node_modules/raw-socket)
        mkdir -p "$new/$path/build/Release"
        cp -- "$path/package.json" "$path/index.js" "$new/$path/"
        cp -- "$path/build/Release/raw.node" "$new/$path/build/Release/"
        ;;
      *) cp -R -- "$path" "$new/$path" ;;
    esac
  done
}

# In an image nothing works without the agent: no sources, and of the packages only those that the bundle leaves out.
copy_agent() {
  local new=$1
  mkdir -p "$new/node_modules"
  cd "$tree"
  cp -- package.json LICENSE "$new/"
  bundle "$new"
  install -D -m 755 -t "$new/build/bin" build/bin/udp-proxy build/bin/flannel
  production_packages | grep -E '^node_modules/(node-linux-[^/]*|koffi|@koromix/[^/]*|raw-socket)$' | copy_packages "$new"
  chmod -R u=rwX,go=rX "$new"
}

install_agent() {
  [[ -d $agent_root && -w $agent_root ]] || die "agent $agent_root: not a directory that can be written"
  modules
  build_programs
  rm -rf "${agent_root:?}/$PROGRAM"
  run "copying the agent to $agent_root/$PROGRAM" 'check the space and the permissions there' \
    copy_agent "$agent_root/$PROGRAM"
  mkdir -p "$agent_root/usr/bin"
  put "$(launcher bundle/main.cjs ../lib/flannel-ts)" 755 "$agent_root/usr/bin/flanneld"
}

install_program() {
  local target=$root/$PROGRAM new=$root/usr/lib/.flannel-ts.new old=$root/usr/lib/.flannel-ts.old
  make_dir usr/lib
  rm -rf "$new" "$old"
  run "copying the program to /$PROGRAM" 'check the space and the permissions there' copy_program "$new"
  note tree - "$PROGRAM"
  if [[ -d $target ]]; then mv -T "$target" "$old"; fi
  mv -T "$new" "$target"
  rm -rf "$old"
  say "installed: /$PROGRAM"
}

cni_list() {
  cat <<EOF
{
  "name": "cbr0",
  "cniVersion": "1.0.0",
  "plugins": [
    {
      "type": "flannel",
      "delegate": { "hairpinMode": true, "isDefaultGateway": true },
      "capabilities": { "portMappings": true, "bandwidth": true }
    }
  ]
}
EOF
}

NET_CONF='{
  "Network": "10.244.0.0/16",
  "Backend": { "Type": "vxlan" }
}'

UNIT='[Unit]
Description=flannel-ts, the agent of the pod network
Wants=network-online.target
After=network-online.target

[Service]
# Every flag has a variable: --etcd-endpoints is FLANNELD_ETCD_ENDPOINTS.
Environment=FLANNELD_IP_MASQ=true
EnvironmentFile=-/etc/default/flanneld
ExecStart=/usr/bin/flanneld
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target'

# The user's word holds: a list changed since we put it, and any net-conf.json that we did not put, stay.
install_config() {
  local list=$cni_conf/10-flannel.conflist net=etc/flannel/net-conf.json
  if [[ $(noted file "$list") ]] && exists "$root/$list" && ! unchanged "$list"; then
    say "kept:      /$list was changed since the last installation"
  else
    place "$(cni_list)" 644 "$list"
  fi
  if exists "$root/$net" && ! unchanged "$net"; then
    say "kept:      /$net was there"
  else
    place "$NET_CONF" 644 "$net"
  fi
  if [[ $root != '' || -d /usr/lib/systemd/system ]]; then
    place "$UNIT" 644 usr/lib/systemd/system/flanneld.service
  fi
}

install_executables() {
  local up
  up=$(realpath --relative-to "$root/usr/bin" "$root/$PROGRAM")
  place "$(launcher bundle/main.cjs "$up")" 755 usr/bin/flanneld
  place_client
}

install_all() {
  [[ -w ${root:-/} ]] || die "${root:-/} cannot be written: run as root"
  if [[ -e $root/$PROGRAM && ! $(noted tree "$PROGRAM") ]]; then
    die "/$PROGRAM is there, but was not put there by install.sh: move it away first"
  fi
  if [[ $root ]]; then packages "${BUILD_PACKAGES[@]}"; else packages "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}"; fi
  modules
  build_programs
  make_dir var/lib/flannel-ts/saved
  make_dir usr/bin
  install_program
  install_executables
  install_config
  cat <<EOF

What to do next, on this and every other node:
  1. put the network configuration into etcd, once:
       etcdctl put /coreos.com/network/config "\$(cat /etc/flannel/net-conf.json)"
  2. name the etcd servers in /etc/default/flanneld: FLANNELD_ETCD_ENDPOINTS=http://192.0.2.1:2379
  3. start the agent: systemctl enable --now flanneld   (or run flanneld; see flanneld --help)
EOF
}

# ---- uninstall ------------------------------------------------------------------------------------------------------

restore() {
  local path=$1 saved=$2 temporary
  temporary=$(beside "$root/$path")
  cp -a -- "$saved" "$temporary"
  mv -fT "$temporary" "$root/$path"
  say "restored:  /$path"
}

# A file that is as we left it goes, and what it replaced comes back; one that somebody changed since then stays.
take_away() {
  local path=$1 number saved=''
  rm -f -- "$(beside "$root/$path")"
  number=$(noted saved "$path")
  [[ ! $number ]] || saved=$state/saved/$number
  if ! exists "$root/$path" || unchanged "$path"; then
    rm -f -- "$root/$path"
    if [[ $saved ]]; then restore "$path" "$saved"; else say "removed:   /$path"; fi
  elif [[ $saved ]] && cmp -s "$saved" "$root/$path"; then
    return
  else
    say "kept:      /$path was changed since the installation"
    [[ ! $saved ]] || restore "$path.before-flannel-ts" "$saved"
  fi
}

uninstall() {
  local path paths=() dirs=()
  [[ -d $state ]] || die "there is no installation in ${root:-/}"
  # Without a manifest nothing was put yet, or all was taken away: only the folder is left.
  [[ -f $state/manifest ]] || : >"$state/manifest"
  mapfile -t paths < <(awk -F '\t' '$1 == "file" { print $3 }' "$state/manifest" | sort -u)
  mapfile -t dirs < <(awk -F '\t' '$1 == "dir" { print $3 }' "$state/manifest" | sort -ru)
  for path in ${paths[@]+"${paths[@]}"}; do take_away "$path"; done
  rm -rf "$root/usr/lib/.flannel-ts.new" "$root/usr/lib/.flannel-ts.old" "$root/${PROGRAM:?}"
  say "removed:   /$PROGRAM"
  # The record goes last, but for the folders that hold it.
  for path in ${dirs[@]+"${dirs[@]}"}; do rmdir "$root/$path" 2>/dev/null || true; done
  rm -rf "$state"
  for path in ${dirs[@]+"${dirs[@]}"}; do
    [[ ! -d $root/$path ]] || rmdir "$root/$path" 2>/dev/null || say "kept:      /$path is not empty"
  done
}

# ---- command line ---------------------------------------------------------------------------------------------------

tree=$(cd -P -- "${BASH_SOURCE[0]%/*}" && pwd -P)
node=''
root=''
cni_bin=/opt/cni/bin
cni_conf=/etc/cni/net.d
verb=install_all
agent_root=''

while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help)
      usage
      exit
      ;;
    deps | uninstall) verb=$1 ;;
    agent)
      [[ ${2-} ]] || die 'agent needs a directory'
      verb=install_agent
      agent_root=$(realpath -m "$2")
      shift
      ;;
    --kubelet) TEST_PACKAGES+=("${KUBELET_PACKAGES[@]}") ;;
    --root | --cni-bin-dir | --cni-conf-dir)
      [[ ${2-} ]] || die "$1 needs a value"
      [[ $1 == --root || $2 == /* ]] || die "$1 needs an absolute path, not $2"
      case $1 in
        --root) root=$2 ;;
        --cni-bin-dir) cni_bin=$2 ;;
        --cni-conf-dir) cni_conf=$2 ;;
      esac
      shift
      ;;
    *) die "unknown argument: $1 (see ./install.sh --help)" ;;
  esac
  shift
done

[[ ! $root || -d $root ]] || die "--root $root: there is no such directory"
root=${root:+$(cd -P -- "$root" && pwd -P)}
root=${root%/}
cni_bin=$(realpath -ms "$cni_bin")
cni_bin=${cni_bin#/}
cni_conf=$(realpath -ms "$cni_conf")
cni_conf=${cni_conf#/}
state=$root/var/lib/flannel-ts
"$verb"
