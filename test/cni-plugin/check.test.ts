// CHECK on a machine in memory: it names what differs from what ADD has made, and nothing else.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { createFakeKernel } from '../../kernel/fake.ts';
import type { Step } from '../../model/steps.ts';
import { machine } from './fake-machine.ts';

t.test('CHECK names what differs', async (t) => {
  const breaks: [
    string,
    (m: ReturnType<typeof machine>, result: { interfaces: { name: string }[] }) => void,
    RegExp,
  ][] = [
    ['address removed', ({ kernel }) => inPod(kernel, 'address'), /missing: ip address add 10\.5\.1\.2\/24 dev eth0/],
    [
      'route removed',
      ({ kernel }) => inPod(kernel, 'route'),
      /missing: ip route replace 0\.0\.0\.0\/0 via 10\.5\.1\.1 dev eth0/,
    ],
    ['link down', ({ kernel }) => inPod(kernel, 'link'), /missing: ip link set eth0 up/],
    [
      'unplugged from the bridge',
      ({ kernel }, { interfaces }) => {
        const value = { name: interfaces[1]?.name as string, kind: 'veth', master: null };
        kernel.apply(kernel.host, [{ verb: 'change', item: { type: 'link', value } }]);
      },
      /missing: ip link set veth[0-9a-f]{8} master cni0/,
    ],
    [
      'reservation removed',
      ({ directory }) => rmSync(join(directory, 'networks/cbr0/10.5.1.2')),
      /networks\/cbr0\/10\.5\.1\.2: no reservation of pod1 eth0/,
    ],
    [
      'gateway removed',
      ({ kernel }) => {
        const value = { device: 'cni0', address: '10.5.1.1/24' as never };
        kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'address', value } }]);
      },
      /missing: ip address add 10\.5\.1\.1\/24 dev cni0/,
    ],
    [
      'masquerading removed',
      ({ kernel }) =>
        kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] }),
      /missing: nft table inet flannel/,
    ],
    [
      'interface removed',
      ({ kernel }, { interfaces }) => {
        const value = { name: interfaces[1]?.name as string, kind: 'veth' };
        kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'link', value } }]);
      },
      /no such interface in \/run\/netns\/pod1/,
    ],
  ];
  for (const [name, damage, message] of breaks) {
    t.test(name, async (t) => {
      const setup = machine(t);
      const result = await setup.run('ADD');
      damage(setup, result);
      t.match(await setup.run('CHECK', { config: { prevResult: result } }), { status: 1, code: 101, msg: message });
    });
  }
  t.test('no prevResult', async (t) => {
    const { run } = machine(t);
    await run('ADD');
    t.match(await run('CHECK'), { code: 7, msg: 'required prevResult missing' });
  });
});

function inPod(kernel: ReturnType<typeof createFakeKernel>, what: 'address' | 'route' | 'link'): void {
  const pod = kernel.openNamespace('/run/netns/pod1');
  const steps: Record<typeof what, Step> = {
    address: { verb: 'delete', item: { type: 'address', value: { device: 'eth0', address: '10.5.1.2/24' as never } } },
    route: { verb: 'delete', item: { type: 'route', value: { device: 'eth0', destination: '0.0.0.0/0' as never } } },
    link: { verb: 'change', item: { type: 'link', value: { name: 'eth0', kind: 'veth', up: false } } },
  };
  kernel.apply(pod, [steps[what]]);
  pod.close();
}

t.test('CHECK is not confused by what chained plugins change', async (t) => {
  const { run, kernel, directory } = machine(t);
  const result = await run('ADD');
  const pod = kernel.openNamespace('/run/netns/pod1');
  const tuned = { name: 'eth0', kind: 'veth', mac: '02:00:00:00:00:99' as never, mtu: 1300 };
  kernel.apply(pod, [
    { verb: 'change', item: { type: 'link', value: tuned } },
    { verb: 'change', item: { type: 'sysctl', value: { key: 'net/ipv6/conf/eth0/accept_ra', value: '2' } } },
    { verb: 'add', item: { type: 'address', value: { device: 'eth0', address: '192.0.2.9/24' as never } } },
  ]);
  pod.close();
  const interfaces = [...result.interfaces.slice(0, 2), { ...result.interfaces[2], mac: tuned.mac }, { name: 'bwp0' }];
  const chained = { ...result, interfaces, ips: [...result.ips, { address: '192.0.2.9/24', interface: 2 }] };
  t.strictSame(await run('CHECK', { config: { prevResult: chained } }), { status: 0 });
  const old = { ...chained, cniVersion: '0.4.0' };
  t.strictSame(await run('CHECK', { config: { cniVersion: '0.4.0', prevResult: old } }), { status: 0 });
  rmSync(join(directory, 'flannel'), { recursive: true });
  t.strictSame(await run('CHECK', { config: { prevResult: result } }), { status: 0 }, 'nor by the lack of a record');
});
