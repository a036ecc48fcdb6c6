// What carries packets past the policy table is named.

import t from 'tap';
import { policyBypass } from '../../../flanneld/policy/bypass.ts';
import { createFakeKernel } from '../../../kernel/fake.ts';
import type { Kernel } from '../../../kernel/kernel.ts';
import { mac } from '../../../model/ip.ts';
import type { Step } from '../../../model/steps.ts';

const kernel = createFakeKernel();
const bridge = (verb: 'add' | 'change', flags: object): Step => ({
  verb,
  item: { type: 'link', value: { name: 'cni0', kind: 'bridge', bridge: flags } },
});

t.equal(policyBypass(kernel, []), undefined);
/** The same without what br_netfilter adds. */
const unfiltering: Pick<Kernel, 'read' | 'host'> = {
  host: kernel.host,
  read: (namespace, query) => ({ ...kernel.read(namespace, query), sysctls: [] }),
};
t.match(policyBypass(unfiltering, ['cni0']), /br_netfilter is not there: pods on bridge cni0/);
t.equal(policyBypass(kernel, ['cni0']), undefined, 'no such bridge yet');
t.strictSame(kernel.apply(kernel.host, [bridge('add', { nfCallIptables: true })]), []);
t.match(policyBypass(kernel, ['cni0']), /bridge cni0 does not hand packets .*nf_call_ip6tables 1/);
t.strictSame(kernel.apply(kernel.host, [bridge('change', { nfCallIp6tables: true })]), []);
t.equal(policyBypass(kernel, ['cni0']), undefined, 'the sysctl does not matter');
kernel.addDevice(kernel.host, { name: 'kube-ipvs0', mac: mac('02:00:00:00:00:01'), mtu: 1500 });
t.match(policyBypass(kernel, ['cni0']), /kube-proxy runs in IPVS mode \(device kube-ipvs0\)/);
