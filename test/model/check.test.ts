// Inputs described and parsed: every problem named with its path, nothing else let through.

import fc from 'fast-check';
import t, { type Test } from 'tap';
import {
  anything,
  boolean,
  type Check,
  cidr,
  ethernet,
  integer,
  ipAddress,
  isObject,
  list,
  matching,
  object,
  oneOf,
  optional,
  parse,
  parseJson,
  string,
  withDefault,
} from '../../model/check.ts';
import { holds } from './holds.ts';

const problems = (input: unknown, shape: Check<unknown>): string[] => {
  const found: string[] = [];
  shape(input, 'x', found);
  return found;
};

const accepts = (t: Test, shape: Check<unknown>, ...inputs: readonly unknown[]) => {
  for (const input of inputs)
    t.strictSame(
      [parse(input, shape, 'file', 'invalid-config'), problems(input, shape)],
      [input, []],
      JSON.stringify(input),
    );
};

const refuses = (t: Test, shape: Check<unknown>, expected: string, ...inputs: readonly unknown[]) => {
  for (const input of inputs)
    t.strictSame(problems(input, shape), [`x: expected ${expected}, got ${JSON.stringify(input) ?? 'nothing'}`]);
};

t.test('strings, truths and whole numbers: what is taken, and how the rest is refused', async (t) => {
  accepts(t, string, '', 'a');
  refuses(t, string, 'a string', 1, null, undefined, [], {}, true);
  accepts(t, boolean, true, false);
  refuses(t, boolean, 'true or false', 'true', 0, 1, null, undefined);
  accepts(t, integer(-1, 3), -1, 0, 3);
  refuses(t, integer(-1, 3), 'a whole number from -1 to 3', -2, 4, 1.5, '1', null, undefined, true);
  refuses(t, integer(0, 3), 'a whole number from 0 to 3', Number.NaN, Number.POSITIVE_INFINITY);
  accepts(t, oneOf('a', 'b'), 'a', 'b');
  refuses(t, oneOf('a', 'b'), 'one of a, b', 'c', '', undefined, 'A', ['a']);
  accepts(t, matching(/^[a-z]+$/, 'letters', 3), 'abc');
  refuses(t, matching(/^[a-z]+$/, 'letters', 3), 'letters', 'abcd', '', 'a1', 1);
  accepts(t, anything, 1, null, undefined, 'x', { a: [] });
});

t.test('addresses become canonical', async (t) => {
  t.equal(parse('FD00::0:1', ipAddress, 'file', 'invalid-config'), 'fd00::1');
  t.equal(parse('FD00::0:1/64', cidr, 'file', 'invalid-config'), 'fd00::1/64');
  t.equal(parse('02:AA:00:00:00:01', ethernet, 'file', 'invalid-config'), '02:aa:00:00:00:01');
  refuses(t, ipAddress, 'an IP address', '10.0.0', '10.0.0.1/24', 1);
  refuses(t, cidr, 'an address with prefix length', '10.0.0.1', '10.0.0.1/33');
  refuses(t, ethernet, 'an Ethernet address', '02:00', '');
});

t.test('absent values', async (t) => {
  t.strictSame(
    [undefined, null, 'a'].map((value) => parse(value, optional(string), 'f', 'io')),
    [undefined, undefined, 'a'],
  );
  t.strictSame(
    [undefined, null, 'a', ''].map((value) => parse(value, withDefault(string, 'd'), 'f', 'io')),
    ['d', 'd', 'a', ''],
  );
  t.strictSame(
    [undefined, null, [], ['a']].map((value) => parse(value, list(string), 'f', 'io')),
    [[], [], [], ['a']],
  );
  refuses(t, optional(string), 'a string', 0, false);
  refuses(t, withDefault(boolean, true), 'true or false', 0, '');
});

t.test('lists name the entry', async (t) => {
  t.strictSame(problems(['a', 1, 'b', null], list(string)), [
    'x[1]: expected a string, got 1',
    'x[3]: expected a string, got null',
  ]);
  t.strictSame(problems(['a', 'b'], list(string, 1)), ['x: expected a list of at most 1, got ["a","b"]']);
  t.strictSame(problems({ length: 1, 0: 'a' }, list(string)), [
    'x: expected a list of at most 10000, got {"0":"a","length":1}',
  ]);
  t.strictSame(problems([['a', 2]], list(list(string))), ['x[0][1]: expected a string, got 2']);
});

const SHAPE = object({
  name: string,
  mtu: optional(integer(68, 65535)),
  ranges: list(object({ subnet: cidr, gateway: optional(ipAddress) })),
});

t.test('objects: all problems at once, by path', async (t) => {
  t.strictSame(parse({ name: 'a', more: 1, ranges: [{ subnet: '10.0.0.0/24' }] }, SHAPE, 'f', 'io'), {
    name: 'a',
    mtu: undefined,
    ranges: [{ subnet: '10.0.0.0/24', gateway: undefined }],
  });
  const bad = { mtu: 3, ranges: [{ subnet: '10.0.0.0/24', gateway: 'x' }, {}, 7] };
  t.throws(() => parse(bad, SHAPE, '/etc/x.json', 'invalid-network-config'), {
    name: 'NetError',
    code: 'invalid-network-config',
    subject: '/etc/x.json',
    message: [
      '/etc/x.json: name: expected a string, got nothing',
      'mtu: expected a whole number from 68 to 65535, got 3',
      'ranges[0].gateway: expected an IP address, got "x"',
      'ranges[1].subnet: expected an address with prefix length, got nothing',
      'ranges[2]: expected an object, got 7',
    ].join('; '),
  });
  for (const input of [null, [], 'x', 1, undefined])
    t.throws(() => parse(input, SHAPE, 'f', 'io'), { message: /^f: expected an object, got / });
});

t.test('keys in any case, as Go reads them', async (t) => {
  const shape = object({ Network: string, EnableIPv6: optional(boolean) }, { anyCase: true });
  t.strictSame(parse({ network: 'a', ENABLEIPV6: true }, shape, 'f', 'io'), { Network: 'a', EnableIPv6: true });
  t.strictSame(
    parse({ NETWORK: 'b', Network: 'a' }, shape, 'f', 'io'),
    { Network: 'a', EnableIPv6: undefined },
    'the exact spelling wins',
  );
  t.strictSame(
    problems({ Network: 1, network: 'a' }, shape),
    ['x.Network: expected a string, got 1'],
    'even when it is wrong',
  );
  t.throws(() => parse({ network: 'a' }, object({ Network: string }), 'f', 'io'), { message: /Network/ });
});

t.test('what an object inherits is not in it', async (t) => {
  t.strictSame(problems({}, object({ toString: optional(string), constructor: optional(string) })), []);
  t.strictSame(problems(JSON.parse('{"__proto__": {"name": "a"}}'), object({ name: string })), [
    'x.name: expected a string, got nothing',
  ]);
  t.strictSame(problems({}, object({ hasOwnProperty: optional(string) }, { anyCase: true })), []);
});

t.test('what was found is shown short', async (t) => {
  const [line] = problems('y'.repeat(5000), integer(0, 1));
  t.equal(line, `x: expected a whole number from 0 to 1, got "${'y'.repeat(56)}...`);
});

t.test('JSON text', async (t) => {
  t.strictSame(parseJson('{"a": [1]}', 'f', 'decoding'), { a: [1] });
  t.throws(() => parseJson('{', '/etc/x', 'decoding'), {
    name: 'NetError',
    code: 'decoding',
    subject: '/etc/x',
    message: /^\/etc\/x: not JSON: /,
  });
});

t.test('isObject', async (t) => {
  t.strictSame([{}, Object.create(null), null, [], 'x', undefined, 1].map(isObject), [
    true,
    true,
    false,
    false,
    false,
    false,
    false,
  ]);
});

t.test('parse never gives what the shape does not allow, and never throws anything else', async (t) => {
  holds(
    t,
    fc.property(fc.anything({ maxDepth: 3 }), (input) => {
      try {
        const found = parse(input, SHAPE, 'f', 'invalid-config') as { name: unknown; mtu: unknown; ranges: unknown[] };
        if (typeof found.name !== 'string' || !Array.isArray(found.ranges)) throw new TypeError(JSON.stringify(found));
      } catch (error) {
        if ((error as { code?: string }).code !== 'invalid-config') throw error;
      }
    }),
  );
});
