// Routes that look like the agent's own, and aren't.

import t from 'tap';
import { ownership } from '../../flanneld/ownership.ts';
import { ip, prefix } from '../../model/ip.ts';
import { EMPTY_STATE, OUR_PROTOCOL, type Route } from '../../model/state.ts';

const owns = (route: Route): boolean =>
  ownership(EMPTY_STATE, {
    networks: [prefix('10.5.0.0/16'), prefix('fd00:5::/48')],
    devices: ['flannel.1'],
    gateways: [],
  })({ type: 'route', value: { protocol: OUR_PROTOCOL, ...route } });

t.test("the CNI plugin's routes to pods without a bridge stay", async (t) => {
  t.notOk(owns({ destination: prefix('10.5.1.2/32'), device: 'veth1' }));
  t.notOk(owns({ destination: prefix('fd00:5:0:1::2/128'), device: 'veth1' }));
  t.ok(owns({ destination: prefix('10.5.2.0/24'), device: 'veth1' }), 'a subnet is a node');
  t.ok(owns({ destination: prefix('10.5.2.1/32'), via: ip('192.0.2.2') }), 'and so is what has a gateway');
  t.ok(owns({ destination: prefix('10.5.2.0/32'), device: 'flannel.1' }), 'or is on a device of ours');
});
