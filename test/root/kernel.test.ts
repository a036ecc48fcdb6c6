// The real kernel passes the suites that the fake passes. The process starts itself again in a network namespace of its
// own, so that tables and whatever a case gets wrong are not the host's.

import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import t from 'tap';
import { openKernel } from '../../kernel/open.ts';
import { kernelCompliance } from '../compliance/kernel.ts';
import { fakeSubject } from '../compliance/kernel-fake-subject.ts';
import { kernelRulesets } from '../compliance/kernel-rulesets.ts';
import { kernelStates } from '../compliance/kernel-states.ts';
import type { Setup } from '../compliance/kernel-subject.ts';
import { kernelTwins } from '../compliance/kernel-twins.ts';
import { count } from '../support/count.ts';

const netns = (...args: readonly string[]) =>
  execFileSync('ip', ['netns', ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
const INSIDE = 'FLANNEL_TEST_IN_NAMESPACE';
let made = 0;

const setup: Setup = () => {
  const kernel = openKernel();
  const names = [`${process.env[INSIDE]}${++made}a`, `${process.env[INSIDE]}${made}b`] as const;
  for (const name of names) netns('add', name);
  const paths = names.map((name) => `/run/netns/${name}`);
  const [namespace, other] = paths.map((path) => kernel.openNamespace(path));
  if (namespace === undefined || other === undefined) throw new Error('no namespaces');
  let otherIsThere = true;
  const removeOther = () => {
    if (!otherIsThere) return;
    otherIsThere = false;
    other.close();
    netns('delete', names[1]);
  };
  return {
    kernel,
    namespace,
    other,
    path: namespace.path,
    notANamespace: '/proc/self/ns/uts',
    removeOther,
    close() {
      removeOther();
      namespace.close();
      kernel.close();
      netns('delete', names[0]);
    },
  };
};

if (process.env[INSIDE] === undefined) {
  const prefix = `suite-${process.pid}-`;
  netns('add', `${prefix}host`);
  // All of them, should the child not get to it.
  t.teardown(() => {
    for (const name of readdirSync('/run/netns').filter((other) => other.startsWith(prefix))) netns('delete', name);
  });
  await t.spawn(
    'nsenter',
    [`--net=/run/netns/${prefix}host`, process.execPath, import.meta.filename],
    { env: { ...process.env, [INSIDE]: prefix } },
    'in a namespace',
  );
} else {
  kernelCompliance('real kernel', setup);
  kernelStates('real kernel', setup, count(400), { endOnFailure: true });
  kernelRulesets('real kernel', setup, count(2000), { endOnFailure: true });
  kernelTwins(fakeSubject, setup, count(600));
}
