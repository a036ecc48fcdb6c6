// VLAN keys: the reference's rules and words, then an honest no.

import fc from 'fast-check';
import t from 'tap';
import { parseConfig } from '../../cni-plugin/config.ts';
import { NetError } from '../../model/errors.ts';
import { seed } from '../support/seed.ts';
import { requestWith } from './requests.ts';

const parsed = (keys: object) => parseConfig(requestWith({ bridge: 'br0', ...keys }), undefined);

t.test('what is wrong', async (t) => {
  const both = 'minID and maxID should be configured simultaneously';
  for (const [item, message] of [
    [{ minID: 100 }, `${both}, maxID is missing`],
    [{ maxID: 200 }, `${both}, minID is missing`],
    [{ minID: 0, maxID: 200 }, 'incorrect trunk minID parameter'],
    [{ minID: 100, maxID: 4095 }, 'incorrect trunk maxID parameter'],
    [{ minID: 200, maxID: 100 }, 'minID is greater than maxID in trunk parameter'],
    [{ id: 0 }, 'incorrect trunk id parameter'],
    [{ minID: 1, maxID: 2, id: 4095 }, 'incorrect trunk id parameter'],
    [{ id: 'x' }, 'expected a whole number'],
    ['x', 'expected an object'],
  ] as const) {
    t.throws(() => parsed({ vlanTrunk: [{ id: 1 }, item] }), {
      code: 'invalid-config',
      message: new RegExp(`vlanTrunk\\[1\\].*${RegExp.escape(message)}`),
    });
  }
});

t.test('what is right is not done, and says why', async (t) => {
  for (const keys of [{ vlan: 7 }, { vlanTrunk: [{ id: 1 }] }, { vlanTrunk: [{ minID: 1, maxID: 4094, id: 3 }] }]) {
    t.throws(() => parsed(keys), { code: 'unsupported-field', details: /CONFIG_BRIDGE_VLAN_FILTERING/ });
  }
  for (const keys of [{ vlan: 0 }, { vlanTrunk: [] }, { preserveDefaultVlan: true }])
    t.equal(parsed(keys).bridge, 'br0');
});

t.test('whatever a trunk is, it is refused by one of the two', async () => {
  const id = fc.option(fc.oneof(fc.integer({ min: -10, max: 5000 }), fc.string()), { nil: undefined });
  const trunk = fc.oneof(fc.record({ minID: id, maxID: id, id }), fc.jsonValue());
  fc.assert(
    fc.property(fc.array(trunk, { minLength: 1 }), (vlanTrunk) => {
      try {
        parsed({ vlanTrunk });
        return false;
      } catch (error) {
        return error instanceof NetError && ['invalid-config', 'unsupported-field'].includes(error.code);
      }
    }),
    { seed },
  );
});
