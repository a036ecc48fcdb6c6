// Which transactions become messages, and which are left to libnftables. What the kernel makes of the messages is in
// test/compliance/kernel-sets.ts.

import t from 'tap';
import { elementCommitter, elementMessages } from '../../kernel/set-elements.ts';
import type { NftCommand, SetHead } from '../../model/ruleset.ts';

const put = (set: Partial<SetHead>, ...elements: string[]): NftCommand => ({
  verb: 'add',
  type: 'element',
  set: { name: 's', type: 'ipv4_addr', ...set },
  elements,
});
const messages = (...commands: NftCommand[]) => elementMessages({ family: 'inet', table: 'flannel', commands });

t.test('elements of known types are one message a command, between begin and end', async (t) => {
  const ports = { type: 'inet_proto . inet_service', gives: 'ipv4_addr . inet_service' };
  const made = messages(put(ports, 'tcp . 80 : 10.0.0.1 . 8080'), {
    ...put(ports, 'udp . 53', 'sctp . 1'),
    verb: 'delete',
  } as NftCommand);
  t.strictSame(
    made?.map(({ type }) => type),
    [0x10, 0xa0c, 0xa0e, 0x11],
  );
  t.strictSame(
    made?.map(({ flags }) => (flags & 4) !== 0),
    [false, false, true, false],
    'the last but one asks for the answer',
  );
});

t.test('all else is left to libnftables', async (t) => {
  const foreign: Readonly<Record<string, NftCommand[]>> = {
    'nothing at all': [],
    'no element': [put({})],
    'a table': [{ verb: 'add', type: 'table' }],
    'a rule beside elements': [put({}, '10.0.0.1'), { verb: 'flush', type: 'chain', chain: { name: 'a' } }],
    'a set of intervals': [put({ flags: ['interval'] }, '10.0.0.0/24')],
    'a subnet in a set of addresses': [put({}, '10.0.0.0/24')],
    'an address of the other family': [put({}, 'fd00::1')],
    'a type without an encoding': [put({ type: 'typeof @th,64,128' }, '0x1')],
    'too few parts': [put({ type: 'ipv4_addr . inet_service' }, '10.0.0.1')],
    'too many parts': [put({}, '10.0.0.1 . 80')],
    'a verdict': [put({ gives: 'verdict' }, '10.0.0.1 : accept')],
    'a value in a set': [put({}, '10.0.0.1 : 10.0.0.2')],
    'two values': [put({ gives: 'ipv4_addr' }, '10.0.0.1 : 10.0.0.2 : 10.0.0.3')],
    'a service by its name': [put({ type: 'inet_service' }, 'http')],
    'a port that there is not': [put({ type: 'inet_service' }, '65536')],
    'a protocol without a word of its own': [put({ type: 'inet_proto' }, 'icmp')],
    'a name without quotes': [put({ type: 'ifname' }, 'eth0')],
    'a name that stands for many': [put({ type: 'ifname' }, '"veth*"')],
    'a name that is too long in bytes': [put({ type: 'ifname' }, `"${'ä'.repeat(8)}"`)],
    'many elements': [put({}, ...Array.from({ length: 65 }, (_, index) => `10.0.0.${index}`))],
  };
  for (const [title, commands] of Object.entries(foreign)) t.equal(messages(...commands), undefined, title);
});

t.test("the first transaction with a set is libnftables', a refused one counts for none", async (t) => {
  const said: string[] = [];
  const [declare, broken] = [{ verb: 'add', type: 'set', set: { name: 's', type: 'ipv4_addr' } }, put({}, '10.0.0.9')];
  const commit = elementCommitter(
    () => ({ transact: () => void said.push('ours') }),
    ({ commands }) => {
      if (commands[0] === broken) throw new Error('refused');
      said.push('libnftables');
    },
  );
  const run = (...commands: NftCommand[]) => commit({ family: 'inet', table: 'flannel', commands });
  t.throws(() => run(broken), { message: 'refused' });
  run(declare as NftCommand, put({}, '10.0.0.1'));
  run(put({}, '10.0.0.2'));
  run(put({ name: 'other' }, '10.0.0.2'));
  run(put({ name: 'other' }, '10.0.0.3'), put({}, '10.0.0.3'));
  commit({ family: 'bridge', table: 'flannel', commands: [put({}, '10.0.0.1')] });
  t.strictSame(said, ['libnftables', 'ours', 'libnftables', 'ours', 'libnftables']);
});
