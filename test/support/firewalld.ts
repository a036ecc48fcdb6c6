// firewalld without firewalld: the table that it loads for a host whose interfaces are all in the zone "public", and what
// its program changes in it when a source is added to the zone "trusted".

const zone = (kind: 'IN' | 'FWD', hook: 'INPUT' | 'FORWARD', name: string, last: string): string => `
  chain filter_${kind}_${name} {
    jump filter_${hook}_POLICIES_pre
    jump filter_${kind}_${name}_pre
    jump filter_${kind}_${name}_log
    jump filter_${kind}_${name}_deny
    jump filter_${kind}_${name}_allow
    jump filter_${kind}_${name}_post
    jump filter_${hook}_POLICIES_post
    ${last}
  }
  chain filter_${kind}_${name}_pre { }
  chain filter_${kind}_${name}_log { }
  chain filter_${kind}_${name}_deny { }
  chain filter_${kind}_${name}_allow { ${kind === 'IN' && name === 'public' ? 'tcp dport 22 accept; ip6 daddr fe80::/64 udp dport 546 accept;' : ''} }
  chain filter_${kind}_${name}_post { }`;

const REJECT = 'meta l4proto { icmp, ipv6-icmp } accept\n    reject with icmpx admin-prohibited';

/** For `nft -f -`. The addresses are those that firewalld rejects for RFC 3964. */
export const FIREWALLD_TABLE = `table inet firewalld {
  chain filter_PREROUTING {
    type filter hook prerouting priority filter + 10; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24, 2002:a00::/24 } reject with icmpv6 addr-unreachable
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_OUTPUT {
    type filter hook output priority filter + 10; policy accept;
    ct state { established, related } accept
    oifname "lo" accept
  }
  chain filter_INPUT_ZONES {
    iifname "eth0" goto filter_IN_public
    goto filter_IN_public
  }
  chain filter_FORWARD_ZONES {
    iifname "eth0" goto filter_FWD_public
    goto filter_FWD_public
  }
  chain filter_INPUT_POLICIES_pre { jump filter_IN_policy_allow-host-ipv6; }
  chain filter_INPUT_POLICIES_post { }
  chain filter_FORWARD_POLICIES_pre { }
  chain filter_FORWARD_POLICIES_post { }
  chain filter_IN_policy_allow-host-ipv6 {
    icmpv6 type { nd-neighbor-advert, nd-neighbor-solicit, nd-router-advert, nd-redirect } accept
  }
${zone('IN', 'INPUT', 'public', REJECT)}
${zone('FWD', 'FORWARD', 'public', 'reject with icmpx admin-prohibited')}
${zone('IN', 'INPUT', 'trusted', 'accept')}
${zone('FWD', 'FORWARD', 'trusted', 'accept')}
}
`;

/** A stand-in for firewall-cmd: a shell script that keeps no state but the table. */
export const FIREWALL_CMD = `#!/bin/sh
[ "$1" = --permanent ] && exit 1
[ "$1" = --zone=trusted ] || exit 2
source=\${2#*=}
case "$source" in *:*) ip=ip6 ;; *) ip=ip ;; esac
zones="inet firewalld filter_FORWARD_ZONES"
rule() { nft --handle list chain $zones | sed -n "s|.*$ip saddr $source goto.*handle ||p"; }
case "$2" in
  --add-source=*) [ -n "$(rule)" ] || nft insert rule $zones $ip saddr "$source" goto filter_FWD_trusted ;;
  --query-source=*) [ -n "$(rule)" ] ;;
  --remove-source=*) nft delete rule $zones handle "$(rule)" ;;
  *) exit 2 ;;
esac
`;
