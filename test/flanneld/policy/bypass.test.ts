// What carries packets past the policy table is named.

import t from 'tap';
import { policyBypass } from '../../../flanneld/policy/bypass.ts';
import { createFakeKernel } from '../../../kernel/fake.ts';
import { mac } from '../../../model/ip.ts';

const kernel = createFakeKernel();
t.equal(policyBypass(kernel), undefined);
kernel.addDevice(kernel.host, { name: 'kube-ipvs0', mac: mac('02:00:00:00:00:01'), mtu: 1500 });
t.match(policyBypass(kernel), /kube-proxy runs in IPVS mode \(device kube-ipvs0\)/);
