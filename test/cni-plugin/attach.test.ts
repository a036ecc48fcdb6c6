// What later attachments need not look at, and what makes them look again. Every request has a view of the kernel of its
// own, as the agent gives it.

import t, { type Test } from 'tap';
import { prefix } from '../../model/ip.ts';
import type { Step } from '../../model/steps.ts';
import { type Machine, machine } from './fake-machine.ts';

/** A machine whose bridge has been looked at as often as it takes, and what its kernel was asked for since. */
async function settled(t: Test) {
  const m = machine(t);
  const asked: string[] = [];
  const { kernel } = m;
  const add = async (pod: string) => {
    const view = {
      ...kernel,
      read: (...[namespace, query]: Parameters<typeof kernel.read>) => {
        if (namespace.id === kernel.host.id && query.links?.includes('cni0')) asked.push('read bridge');
        return kernel.read(namespace, query);
      },
      commit: (transaction: Parameters<typeof kernel.commit>[0]) => {
        asked.push('commit');
        kernel.commit(transaction);
      },
    };
    Object.assign(m.dependencies, { kernel: view });
    const { status } = await m.run('ADD', {
      containerId: pod,
      config: { delegate: { ...m.base.delegate, ipMasq: true } },
    });
    t.equal(status, 0);
    return asked.splice(0);
  };
  for (const pod of ['a', 'b', 'c', 'd', 'e']) kernel.addNamespace(`/run/netns/${pod}`);
  for (const pod of ['a', 'b', 'c']) await add(pod);
  return { ...m, add };
}

const change = ({ kernel }: Pick<Machine, 'kernel'>, step: Step) => kernel.apply(kernel.host, [step]);

t.test('a bridge and rules that nobody has changed are not looked at', async (t) => {
  const { add } = await settled(t);
  t.strictSame(await add('d'), []);
});

t.test('a gateway address that somebody has removed is put back', async (t) => {
  const m = await settled(t);
  const address = { device: 'cni0', address: prefix('10.5.1.1/24') };
  t.same(change(m, { verb: 'delete', item: { type: 'address', value: address } }), []);
  t.match(await m.add('d'), ['read bridge']);
  t.match(m.kernel.read(m.kernel.host, { addresses: ['cni0'] }).addresses, [{ address: '10.5.1.1/24' }]);
});

t.test('a bridge that somebody has taken down is brought up', async (t) => {
  const m = await settled(t);
  change(m, { verb: 'change', item: { type: 'link', value: { name: 'cni0', kind: 'bridge', up: false } } });
  t.match(await m.add('d'), ['read bridge']);
  t.equal(m.kernel.read(m.kernel.host, { links: ['cni0'] }).links[0]?.up, true);
});

t.test('rules that somebody has removed are put back', async (t) => {
  const m = await settled(t);
  m.kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  t.ok((await m.add('d')).includes('commit'));
  t.match(m.kernel.dump(m.kernel.host), /cni-masquerade-v4[^}]*10\.5\.1\.0\/24/);
});

t.test("another table's transaction makes the next attachment look again, and only that", async (t) => {
  const m = await settled(t);
  m.kernel.commit({ family: 'inet', table: 'other', commands: [{ verb: 'add', type: 'table' }] });
  t.strictSame(await m.add('d'), ['commit']);
  t.strictSame(await m.add('e'), []);
});
