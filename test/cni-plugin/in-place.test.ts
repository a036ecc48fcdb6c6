// What is known to be in place isn't put there again, until somebody else changes the rules.

import t from 'tap';
import { commitElements, ensureInPlace } from '../../cni-plugin/in-place.ts';
import { createFakeKernel } from '../../kernel/fake.ts';
import type { NftSet, Transaction } from '../../model/ruleset.ts';

const SET: NftSet = { name: 'cni-test', type: 'ipv4_addr', elements: [] };
const change = (...commands: Transaction['commands']): Transaction => ({ family: 'inet', table: 'flannel', commands });
const element = (verb: 'add' | 'delete', text: string) => change({ verb, type: 'element', set: SET, elements: [text] });

/** A host with the set, and how often `what` had to be put in place. */
function host() {
  const kernel = createFakeKernel();
  kernel.commit(change({ verb: 'add', type: 'table' }, { verb: 'add', type: 'set', set: SET }));
  let times = 0;
  const ensure = (what: string, put = () => {}) =>
    ensureInPlace(kernel, what, () => {
      times++;
      put();
    });
  return { kernel, ensure, times: () => times };
}

t.test('once, and again for something else', async (t) => {
  const { kernel, ensure, times } = host();
  ensure('one', () => kernel.commit(element('add', '10.0.0.1')));
  ensure('one');
  t.equal(times(), 1);
  ensure('two');
  t.equal(times(), 2);
});

t.test('elements of attachments come and go beside it', async (t) => {
  const { kernel, ensure, times } = host();
  ensure('one');
  commitElements(kernel, element('add', '10.0.0.1'));
  ensure('one');
  commitElements(kernel, element('delete', '10.0.0.1'));
  ensure('one');
  t.equal(times(), 1);
});

t.test('anything else may have taken it away', async (t) => {
  const { kernel, ensure, times } = host();
  ensure('one');
  kernel.commit(element('add', '10.0.0.1'));
  commitElements(kernel, element('add', '10.0.0.2'));
  ensure('one');
  t.equal(times(), 2);
  ensure('one', () => t.fail('it is known again'));
});

t.test('what meets with a stranger is looked at again', async (t) => {
  const { kernel, ensure, times } = host();
  const stranger = () => kernel.commit(element('add', '10.0.0.3'));
  ensure('one', () => {
    kernel.commit(element('add', '10.0.0.1'));
    stranger();
  });
  ensure('one');
  t.equal(times(), 2);
});

t.test('what failed is not in place', async (t) => {
  const { kernel, ensure, times } = host();
  t.throws(() => ensure('one', () => kernel.commit(element('delete', '10.0.0.9'))));
  ensure('one');
  t.equal(times(), 2);
});
