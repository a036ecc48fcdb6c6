// Queueing disciplines and redirects.

import type { Qdisc, Redirect } from '../../model/state.ts';
import { read } from './kernel-readings.ts';
import { add, type Case, must, pair, remove, replace, type Subject, script } from './kernel-subject.ts';

const tbf = (device: string, rate = 125_000, more: object = {}) =>
  ({ device, kind: 'tbf', rate, burst: 12_500, limit: 15_625, ...more }) as const;
const ingress = (device: string) => ({ device, kind: 'ingress' }) as const;
const ifb = (name: string) => add.link({ name, kind: 'ifb', up: true });

const shown = (subject: Subject, ...devices: string[]): (Qdisc | Redirect)[] => {
  const { qdiscs, redirects } = read(subject, { qdiscs: devices });
  return [...qdiscs, ...redirects];
};

export const QDISC_CASES: Readonly<Record<string, Case>> = {
  'a token bucket: add, replace, delete': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), ifb('ifb0'), add.link({ name: 'br0', kind: 'bridge', up: true }));
    t.strictSame(shown(s, 'v0', 'ifb0', 'br0', 'lo', 'nope'), [], 'what the kernel chooses itself is not shown');
    script(t, s, [
      [add.qdisc(tbf('v0')), 'ok'],
      [add.qdisc(tbf('v0')), 'EEXIST'],
      [add.qdisc(tbf('v0', 1)), 'EEXIST'],
      [replace.qdisc(tbf('v0', 250_000)), 'ok'],
      [replace.qdisc(tbf('ifb0')), 'ok'],
      [replace.qdisc(tbf('ifb0')), 'ok'],
      [add.qdisc(tbf('br0')), 'ok'],
      [add.qdisc(tbf('nope')), 'ENODEV'],
      [add.qdisc(tbf('v1', 0)), 'EINVAL'],
      [add.qdisc(tbf('v1', 6e9, { burst: 1 })), 'EINVAL'],
    ]);
    t.strictSame(shown(s, 'v0', 'v1', 'ifb0', 'br0'), [tbf('v0', 250_000), tbf('ifb0'), tbf('br0')]);
    script(t, s, [
      [remove.qdisc(tbf('v0')), 'ok'],
      [remove.qdisc(tbf('v0')), 'ENOENT'],
      [remove.qdisc(tbf('v1')), 'ENOENT'],
      [remove.qdisc(tbf('lo')), 'ENOENT'],
      [remove.qdisc(tbf('nope')), 'ENODEV'],
      [remove.qdisc(tbf('ifb0', 7)), 'ok'],
    ]);
    t.strictSame(shown(s, 'v0', 'ifb0', 'br0'), [tbf('br0')]);
  },

  'rates beyond 32 bits, and bursts as exact as the clock': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    const huge = tbf('v0', 6_000_000_000, { burst: 4_000_000_000, limit: 0xffffffff });
    must(t, s, add.qdisc(huge), add.qdisc(tbf('v1', 1, { burst: 0xffffffff, limit: 0 })));
    t.strictSame(shown(s, 'v0', 'v1'), [{ ...huge, burst: 3_999_996_000 }, tbf('v1', 1, { burst: 275, limit: 0 })]);
    must(t, s, replace.qdisc({ ...huge, burst: 3_999_996_000 }));
    t.strictSame(shown(s, 'v0'), [{ ...huge, burst: 3_999_996_000 }], 'what was read reads the same');
  },

  'the ingress and what is redirected there': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), ifb('ifb0'), ifb('ifb1'));
    script(t, s, [
      [add.redirect({ device: 'v0', to: 'ifb0' }), 'EINVAL'],
      [replace.redirect({ device: 'v0', to: 'ifb0' }), 'EINVAL'],
      [remove.redirect({ device: 'v0', to: 'ifb0' }), 'EINVAL'],
      [add.qdisc(ingress('v0')), 'ok'],
      [add.qdisc(ingress('v0')), 'EEXIST'],
      [replace.qdisc(ingress('v0')), 'ok'],
      [add.qdisc(ingress('nope')), 'ENODEV'],
      [remove.redirect({ device: 'v0', to: 'ifb0' }), 'ENOENT'],
      [add.redirect({ device: 'v0', to: 'nope' }), 'ENODEV'],
      [add.redirect({ device: 'nope', to: 'ifb0' }), 'ENODEV'],
      [add.redirect({ device: 'v0', to: 'ifb0' }), 'ok'],
      [add.redirect({ device: 'v0', to: 'ifb0' }), 'EEXIST'],
      [replace.qdisc(ingress('v0')), 'ok'],
    ]);
    t.strictSame(shown(s, 'v0', 'v1'), [ingress('v0'), { device: 'v0', to: 'ifb0' }]);
    script(t, s, [
      [replace.redirect({ device: 'v0', to: 'ifb1' }), 'ok'],
      [add.qdisc(tbf('v0')), 'ok'],
    ]);
    t.strictSame(shown(s, 'v0'), [tbf('v0'), ingress('v0'), { device: 'v0', to: 'ifb1' }]);
    script(t, s, [
      [remove.redirect({ device: 'v0', to: 'ifb0' }), 'ok'],
      [remove.redirect({ device: 'v0', to: 'ifb0' }), 'ENOENT'],
      [replace.redirect({ device: 'v0', to: 'ifb0' }), 'ok'],
      [remove.qdisc(ingress('v0')), 'ok'],
      [remove.qdisc(ingress('v0')), 'ENOENT'],
      [remove.qdisc(ingress('nope')), 'ENODEV'],
    ]);
    t.strictSame(shown(s, 'v0'), [tbf('v0')]);
    must(t, s, add.qdisc(ingress('v0')));
    t.strictSame(shown(s, 'v0'), [tbf('v0'), ingress('v0')], 'the filter went with its discipline');
  },

  'disciplines go with their device; a redirect to a device that goes leads nowhere': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), ifb('ifb0'), ifb('ifb1'));
    must(t, s, add.qdisc(tbf('ifb0')), add.qdisc(tbf('v0')), add.qdisc(ingress('v0')));
    must(t, s, add.redirect({ device: 'v0', to: 'ifb0' }), remove.link({ name: 'ifb0', kind: 'ifb' }));
    t.strictSame(shown(s, 'v0', 'ifb0'), [tbf('v0'), ingress('v0')]);
    must(t, s, ifb('ifb0'));
    t.strictSame(shown(s, 'v0', 'ifb0'), [tbf('v0'), ingress('v0')], 'its successor is another device');
    script(t, s, [
      [add.redirect({ device: 'v0', to: 'ifb0' }), 'EEXIST'],
      [replace.redirect({ device: 'v0', to: 'ifb0' }), 'ok'],
      [remove.link({ name: 'v1', kind: 'veth' }), 'ok'],
    ]);
    must(t, s, ...pair('v0', 'v1'));
    t.strictSame(shown(s, 'v0', 'v1'), []);
  },
};
