// Peers as gateways: a plain route by the peer's address, no encapsulation, for nodes on one link.

import { NetError } from '../../model/errors.ts';
import { familiesOf } from '../../model/lease.ts';
import { OUR_PROTOCOL, type Route } from '../../model/state.ts';
import type { OpenBackend, Peer, Reach, Underlay } from './backend.ts';

/** The route to a peer's pods by the peer itself. */
export const directRoute = ({ subnet, publicIp }: Peer, { device }: Underlay): Route => ({
  destination: subnet,
  via: publicIp,
  device,
  protocol: OUR_PROTOCOL,
});

/** Takes no options. @throws NetError invalid-flag when the published address is not the interface's own (NAT) */
export const openHostGw: OpenBackend = ({ site }) => {
  const underlays = familiesOf(site.underlay).map((family) => site.underlay[family] as Underlay);
  for (const { device, address, publicIp } of underlays) {
    if (publicIp === address) continue;
    const flag = publicIp.includes(':') ? '--public-ipv6' : '--public-ip';
    throw new NetError(
      'invalid-flag',
      `${flag}=${publicIp}: host-gw needs the address of ${device} itself, which is ${address}`,
      { subject: flag },
    );
  }
  return {
    type: 'host-gw',
    options: {},
    live: [],
    publishedType: 'host-gw',
    backendData: {},
    mtu: Math.min(...underlays.map(({ mtu }) => mtu)),
    devices: [],
    base: () => ({}),
    // Its bridge has no address before its first pod; and this is the way that packets of pods take.
    echoes: ({ publicIp }) => publicIp,
    reach: (peer) => reachByGateway(peer, site.underlay[peer.family] as Underlay),
  };
};

function reachByGateway(peer: Peer, underlay: Underlay): Reach {
  if (!peer.onLink()) return { refused: `${peer.publicIp} is not on the link of ${underlay.device}, as host-gw needs` };
  return { state: { routes: [directRoute(peer, underlay)] } };
}
