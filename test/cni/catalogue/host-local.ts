// reference/cni.md 2d: plugins/ipam/host-local, its allocator, configuration, ranges, resolv.conf and lock.

const VERBS = {
  'host-local/add-addresses': 'ADD with two range sets: exactly 10.1.2.2/24 and 2001:db8:1::2/64, gateways, routes',
  'host-local/add-dns': 'ADD: the DNS settings of resolvConf',
  'host-local/files': 'a reservation is a file with the container id, CR LF and the interface name',
  'host-local/last-reserved': 'last_reserved_ip.0 and .1 hold the addresses',
  'host-local/del-files': 'DEL removes the files',
  'host-local/two-interfaces': 'two interfaces of one container get two addresses; DEL of one keeps the other',
  'host-local/repeat': 'a second ADD of an attachment is refused; another interface still works',
  'host-local/legacy-file': 'DEL of a reservation that holds only the container id',
  'host-local/unknown-id': 'DEL of an unknown id succeeds',
  'host-local/whitespace': 'white space in the files is ignored',
  'host-local/silent-first-use': 'nothing on standard error at first use',
  'host-local/custom-ip': 'an address asked for by args.cni.ips',
  'host-local/custom-ips-ranges': 'addresses asked for of several ranges',
  'host-local/custom-ips-families': 'addresses asked for of both families',
  'host-local/custom-ip-unused':
    'an address asked for that no range has: "failed to allocate all requested IPs: 10.1.2."',
} as const;

const ALLOCATOR = {
  'allocator/from-start': 'goes through the range from the start',
  'allocator/from-end': 'goes on at the start after the end',
  'allocator/from-middle': 'goes on after the last address and wraps',
  'allocator/round-robin': 'the table of round-robin cases [12]',
  'allocator/no-broadcast': 'never the broadcast address',
  'allocator/not-the-last': 'a released address is not the next one given',
  'allocator/no-gateway': 'never the gateway',
  'allocator/requested': 'an address asked for',
  'allocator/requested-taken': 'an address asked for that is taken: "requested IP address … is not available"',
  'allocator/requested-after': 'an address asked for after rangeEnd is refused',
  'allocator/requested-before': 'an address asked for before rangeStart is refused',
  'allocator/exhausted': '"no IP addresses available in range set: a-b"',
  'allocator/next-range': 'after the last address of a range the next range follows',
  'allocator/first-range': 'without a last address the first range is first',
} as const;

const CONFIG = {
  'ipam-config/old': 'the flat form',
  'ipam-config/new': 'the form with ranges',
  'ipam-config/mixed': 'both, with ranges of the runtime',
  'ipam-config/cni-args': 'CNI_ARGS IP without a prefix length',
  'ipam-config/cni-args-prefix': 'CNI_ARGS IP with one',
  'ipam-config/args': 'args.cni.ips without prefix lengths',
  'ipam-config/args-prefix': 'args.cni.ips with them',
  'ipam-config/overlap-between': 'overlap between sets is refused',
  'ipam-config/overlap-within': 'overlap within a set is refused',
  'ipam-config/mixed-families': 'both families in a set are refused',
  'ipam-config/too-many': 'more than one range of a family is refused for 0.2.0',
  'ipam-config/one-of-each': 'one range of each family is right for 0.2.0',
  'ipam-config/ips-capability': 'addresses asked for by runtimeConfig.ips',
  'range/default-24': 'IPv4 defaults for a /24',
  'range/default-25': 'IPv4 defaults for a /25',
  'range/host-bits': 'host bits in the subnet are refused, both families',
  'range/default-v6': 'IPv6 defaults',
  'range/too-small': 'a /31 is refused',
  'range/bounds': 'rangeStart or rangeEnd outside the subnet is refused',
  'range/all-fields': 'start, end and gateway as given',
  'resolv-conf/simple': 'a simple file',
  'resolv-conf/comments': 'comments are ignored',
  'resolv-conf/all-fields': 'nameserver, domain, search and options',
  'lock/blocks': 'a second one waits for the lock until it is released',
} as const;

export const HOST_LOCAL = { ...VERBS, ...ALLOCATOR, ...CONFIG } as const;
