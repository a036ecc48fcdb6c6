// Checksum offload of VXLAN devices: by kernel, by flag, and held to.

import t from 'tap';
import { txChecksumFor } from '../../flanneld/checksum-offload.ts';
import { rig } from './fixtures/agent.ts';

t.test('by the kernel, unless it is said', async (t) => {
  for (const [release, expected] of [
    ['4.19.0-27-amd64', false],
    ['5.4.0-42-generic', false],
    ['5.6.19', false],
    ['5.7.0', undefined],
    ['5.14.0-427.el9.x86_64', undefined],
    ['6.1.0-44-amd64', undefined],
    ['10.0', undefined],
    ['unknown', undefined],
  ] as const) {
    t.equal(txChecksumFor('auto', release), expected, release);
    t.equal(txChecksumFor('on', release), true);
    t.equal(txChecksumFor('off', release), false);
  }
});

t.test('report 3: held to', async (t) => {
  const node = rig(t);
  const offload = () => node.kernel.read(node.kernel.host, { links: ['flannel.1'] }).links[0]?.txChecksum;
  const toggle = async (txChecksum: boolean) => {
    node.kernel.apply(node.kernel.host, [
      { verb: 'change', item: { type: 'link', value: { name: 'flannel.1', kind: 'vxlan', txChecksum } } },
    ]);
    await node.pass(1000);
    await node.pass(1000);
  };
  const first = node.start(['--vxlan-tx-checksum=off']);
  await node.pass(0);
  t.equal(offload(), false, 'from the beginning');
  await toggle(true);
  t.equal(offload(), false, 'and again when somebody has switched it on');
  await first.stop();
  const second = node.start(['--vxlan-tx-checksum=on']);
  await node.pass(0);
  t.equal(offload(), true, 'on an existing device');
  await second.stop();
  node.start();
  await node.pass(0);
  await toggle(false);
  t.equal(offload(), false, 'auto leaves it alone on a kernel that is right');
});
