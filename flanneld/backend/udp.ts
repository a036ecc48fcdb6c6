// Packets of pods in UDP datagrams of their own, carried by a program in user space (udp-proxy.c): for kernels and networks
// where nothing else works. On the wire as flannel's udp backend.
//
// The whole Network is routed into the TUN device, which the program makes; which peer a packet goes to is for the program
// to know. One program carries both families, over IPv4 where the nodes have it.

import { integer, object, parse, withDefault } from '../../model/check.ts';
import { type Family, firstOf, hostPrefix, type Ip, type Prefix } from '../../model/ip.ts';
import { familiesOf, type Lease } from '../../model/lease.ts';
import { OUR_PROTOCOL, type State } from '../../model/state.ts';
import type { OpenBackend, ProxySettings, Site, Underlay } from './backend.ts';
import { looseFilter } from './reverse-path.ts';

const DEVICE = 'flannel0';
const DEFAULT_PORT = 8285;
/** Bytes of the outer headers: IP and UDP. */
const OVERHEAD: Readonly<Record<Family, number>> = { 4: 20 + 8, 6: 40 + 8 };

const SHAPE = object({
  Backend: object({ Port: withDefault(integer(0, 65_535), DEFAULT_PORT) }, { anyCase: true }),
});

/** One program for all families, on the first one's underlay. @throws NetError invalid-network-config */
export const openUdp: OpenBackend = ({ options, site }) => {
  const { Backend } = parse({ Backend: options }, SHAPE, 'network configuration', 'invalid-network-config');
  const port = Backend?.Port || DEFAULT_PORT;
  const family = familiesOf(site.underlay)[0] as Family;
  const underlay = site.underlay[family] as Underlay;
  const mtu = underlay.mtu - OVERHEAD[family];
  return {
    type: 'udp',
    options: { Port: port },
    live: [],
    publishedType: '',
    backendData: {},
    mtu,
    devices: [DEVICE],
    port,
    base: (self, there) => (there(DEVICE) ? baseState(self, site, mtu) : {}),
    reach: () => ({ state: {} }),
    echoes: ({ subnet }) => firstOf(subnet),
    proxy: (self, peers) => proxySettings(self, peers, { family, address: underlay.address, port }),
  };
};

function baseState(self: Lease, { networks }: Site, mtu: number): Partial<State> {
  const families = familiesOf(networks).filter((family) => self.subnet[family] !== undefined);
  return {
    links: [{ name: DEVICE, kind: 'tun', up: true, mtu }],
    // The program's ICMP errors come from an address of this host.
    sysctls: families.includes(4)
      ? [{ key: `net/ipv4/conf/${DEVICE}/accept_local`, value: '1' }, looseFilter(DEVICE)]
      : [],
    addresses: families.map((family) => ({
      device: DEVICE,
      address: hostPrefix(firstOf(self.subnet[family] as Prefix)),
      ...(family === 6 && { noDad: true }),
    })),
    routes: families.map((family) => ({
      destination: networks[family] as Prefix,
      device: DEVICE,
      protocol: OUR_PROTOCOL,
    })),
  };
}

interface Outer {
  readonly family: Family;
  readonly address: Ip;
  readonly port: number;
}

function proxySettings(self: Lease, peers: readonly Lease[], { family, address, port }: Outer): ProxySettings {
  const sources = familiesOf(self.subnet).map((inner) => firstOf(self.subnet[inner] as Prefix));
  return {
    args: [DEVICE, address, String(port), ...sources],
    port,
    routes: peers.flatMap(({ subnet, publicIp }) => {
      const nextHop = publicIp[family];
      if (nextHop === undefined) return [];
      return familiesOf(subnet).map((inner) => ({ network: subnet[inner] as Prefix, nextHop }));
    }),
  };
}
