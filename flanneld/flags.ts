// Every flag of the agent, once: parsing, FLANNELD_* variables, --help and docs/flags.md come from this table. Names
// and defaults are flannel's (main.go), so that its command lines and manifests work unchanged; what is not flannel's
// says so.

import type { Ip, Prefix } from '../model/ip.ts';
import {
  address,
  choice,
  type Command,
  endpoints,
  expression,
  type Flag,
  heeded,
  list,
  ours,
  prefixes,
  text,
  toggle,
  value,
  whole,
} from './flag-kinds.ts';

/** `dir:` and a path, or nothing is enforced. */
export type PolicySourceFlag = 'off' | 'kube' | `dir:/${string}`;

/** The commands that put files for the container runtime onto a host. */
export const INSTALLATION: readonly Command[] = ['install-cni', 'uninstall-cni'];
const KUBE = 'used with the Kubernetes subnet manager only';

export const FLAGS = {
  'etcd-endpoints': value<readonly string[]>(
    ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
    'LIST',
    'addresses host:port or http(s)://host:port separated by commas',
    endpoints,
    'etcd servers; tried in turn',
  ),
  'etcd-prefix': text('/coreos.com/network', 'KEY', 'etcd key that configuration and leases stand under'),
  'etcd-keyfile': text('', 'FILE', 'private key of the client certificate'),
  'etcd-certfile': text('', 'FILE', 'client certificate shown to etcd'),
  'etcd-cafile': text(
    '',
    'FILE',
    'authority that signed the certificate of etcd; enough by itself for https endpoints',
  ),
  'etcd-username': text('', 'NAME', 'user of etcd'),
  'etcd-password': text('', 'TEXT', 'password of that user'),
  iface: list(
    'NAME|IP',
    'an interface or address',
    (given) => given || undefined,
    'interface to other nodes; the first of several that is there',
  ),
  'iface-regex': list(
    'REGEX',
    'a regular expression',
    expression,
    'the same by expression, matched on addresses, then names; tried after --iface',
  ),
  'iface-can-reach': address(
    undefined,
    'the same by route: the interface that this address is reached through; tried last',
  ),
  'subnet-file': heeded(
    text('/run/flannel/subnet.env', 'FILE', 'where the subnet of this node is written for the CNI plugin'),
    'run',
    'status',
    'cleanup',
  ),
  'public-ip': address(4, 'IPv4 address that peers send to; default is the address of the interface'),
  'public-ipv6': address(6, 'IPv6 address that peers send to; default is the address of the interface'),
  'subnet-lease-renew-margin': whole(
    1,
    1439,
    60,
    'MINUTES',
    'life that the lease should have left; it is renewed every 10 s, and reported when it has less',
  ),
  'ip-masq': toggle(false, 'masquerade traffic from pods to addresses outside the network'),
  'ip-masq-fully-random-disable': toggle(
    false,
    'choose masqueraded ports in the order of the kernel instead of at random',
  ),
  'kube-subnet-mgr': toggle(false, 'same as --subnet-mgr=kube'),
  'kube-api-url': text('', 'URL', `API server; ${KUBE}`),
  'kubeconfig-file': text('', 'FILE', `access to the API server; ${KUBE}`),
  'kube-annotation-prefix': text('flannel.alpha.coreos.com', 'PREFIX', `prefix of node annotations; ${KUBE}`),
  'net-config-path': text(
    '/etc/kube-flannel/net-conf.json',
    'FILE',
    'network configuration; used with the Kubernetes and file subnet managers only',
  ),
  'set-node-network-unavailable': toggle(true, `clear the node condition NetworkUnavailable; ${KUBE}`),
  'iptables-resync': whole(
    1,
    86_400,
    5,
    'SECONDS',
    'how often rules, routes and devices are compared with what they should be and put right',
  ),
  'iptables-forward-rules': toggle(
    true,
    'accept forwarded traffic from and to the network where FORWARD of iptables or firewalld drops it (docs/packet-filters.md)',
  ),
  'ip-blackhole-route': toggle(
    false,
    'a blackhole route for the subnet of this node, so that addresses of no pod are not sent out',
  ),
  'healthz-ip': address(
    undefined,
    'address that /healthz, /readyz, /status and /metrics are served on',
    '0.0.0.0' as Ip,
  ),
  'healthz-port': whole(0, 65_535, 0, 'PORT', 'port of the same; 0 turns it off'),
  v: heeded(
    whole(
      0,
      99,
      0,
      'LEVEL',
      'log verbosity: 0 what an operator needs, 1 and up also details; to standard error, a JSON object a line, on a terminal as text',
    ),
    'run',
    'cleanup',
  ),
  vmodule: text('', 'PATTERN', 'accepted for compatibility; has no effect'),
  log_backtrace_at: text('', 'FILE:LINE', 'accepted for compatibility; has no effect'),
  'subnet-mgr': ours(choice(['etcd', 'kube', 'file'], 'etcd', 'etcd|kube|file', 'who hands out subnets')),
  'leases-file': ours(
    text(
      '/var/lib/flannel/leases.json',
      'FILE',
      'leases of all nodes, which may share the file (docs/file-subnet-manager.md); used with --subnet-mgr=file only',
    ),
  ),
  'node-id-file': ours(
    text(
      '/var/lib/flannel/node-id',
      'FILE',
      'identity of this node, made at the first start; a lease belongs to it whatever address the node has',
    ),
  ),
  'peer-probe-interval': ours(
    whole(
      0,
      86_400,
      30,
      'SECONDS',
      'how often the way to each peer is probed with two echoes, a small one and one as large as the MTU of pods; at most 50 peers a second; 0 turns it off',
    ),
  ),
  'non-masquerade-cidrs': ours<Prefix[]>({
    kind: 'list',
    initial: [],
    read: prefixes,
    expected: 'prefixes separated by commas',
    placeholder: 'CIDR,...',
    help: 'destinations that see the addresses of pods: traffic to them is not masqueraded, by the agent or for the CNI plugin',
  }),
  'vxlan-tx-checksum': ours(
    choice(
      ['auto', 'on', 'off'],
      'auto',
      'auto|on|off',
      'checksum offload of VXLAN devices, as ethtool -K DEVICE tx on|off; auto: off on kernels before 5.7, which spoil checksums of masqueraded packets, else as it is; off costs throughput',
    ),
  ),
  'cni-socket': {
    ...ours(text('/run/flannel/cni.sock', 'PATH', 'where CNI clients of this host are served; empty: not at all')),
    heededBy: ['run', 'cleanup'],
    shared: 'FLANNEL_CNI_SOCKET',
  },
  'cni-only': ours(toggle(false, 'serve CNI clients and do nothing else: no subnet manager, no other nodes')),
  'policy-source': ours(
    value<PolicySourceFlag>(
      'off',
      'off|kube|dir:PATH',
      'off, kube, or dir: and the absolute path of a directory',
      (given) =>
        given === 'off' || given === 'kube' || /^dir:\/./.test(given) ? (given as PolicySourceFlag) : undefined,
      'where NetworkPolicy objects, and the pods and namespaces that they speak of, come from (docs/network-policy.md)',
    ),
  ),
  'policy-established': ours(
    choice(['cut', 'keep'], 'cut', 'cut|keep', 'what becomes of flows that a stricter policy no longer allows'),
  ),
  'policy-unknown-pod': ours(
    choice(
      ['closed', 'open'],
      'closed',
      'closed|open',
      'a pod that the policy source does not know, in a namespace with policies: may do nothing, or everything',
    ),
  ),
  'policy-log-denied': ours(
    toggle(false, 'log samples of what network policies drop, at most 20 packets a second, for flanneld policy trace'),
  ),
  'cni-list': heeded(
    ours(
      text(
        '',
        'FILE',
        'CNI list for the container runtime; the agent puts it into --cni-conf-dir as 10-flannel.conflist once pods can be served, and keeps it there; empty: it leaves that directory alone',
      ),
    ),
    'run',
    'uninstall-cni',
  ),
  'cni-conf-dir': heeded(ours(text('/etc/cni/net.d', 'DIR', 'directory of CNI lists')), 'run', ...INSTALLATION),
  'cni-bin-dir': heeded(ours(text('/opt/cni/bin', 'DIR', 'directory of CNI executables')), ...INSTALLATION),
  'cni-grace': heeded(
    ours(whole(0, 3600, 60, 'SECONDS', 'how long CNI clients wait for an agent that is being replaced')),
    'install-cni',
  ),
  'dry-run': heeded(
    ours(toggle(false, 'print what would be changed on this machine, change nothing, take no lease')),
    'run',
    'cleanup',
  ),
  json: { ...heeded(ours(toggle(false, 'print JSON')), 'status'), action: true },
  version: { ...toggle(false, 'print the version'), action: true },
  help: { ...toggle(false, 'print this help'), action: true },
} as const satisfies Record<string, Flag<never> | Flag<unknown>>;

export type FlagName = keyof typeof FLAGS;
/** The value of every flag after parsing. */
export type FlagValues = { readonly [N in FlagName]: (typeof FLAGS)[N] extends Flag<infer T> ? T : never };

/** The environment variable of a flag, "FLANNELD_ETCD_PREFIX"; undefined for an action. */
export const variableOf = (name: string, flag: Flag<unknown>): string | undefined =>
  flag.action ? undefined : `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`;
