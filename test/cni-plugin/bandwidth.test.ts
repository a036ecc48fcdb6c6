// Bandwidth: what is asked for, the reference plugin's numbers, and a plan that reads as the commands a person would type.

import t from 'tap';
import { isLimited, parseBandwidth, planShaping, tokenBucket } from '../../cni-plugin/bandwidth.ts';
import { ifbOf } from '../../cni-plugin/names.ts';
import { shape, shapingDifferences } from '../../cni-plugin/shaping.ts';
import { createFakeKernel } from '../../kernel/fake.ts';
import { diff } from '../../model/diff.ts';
import { mac } from '../../model/ip.ts';
import { EMPTY_STATE, type Item } from '../../model/state.ts';
import { printStep, type Step } from '../../model/steps.ts';
import { requestWith } from './requests.ts';

const IFB = { name: 'ifb0123456789ab', mac: mac('02:00:00:00:00:09') };
const BOTH = { ingressRate: 8_000_000, ingressBurst: 80_000, egressRate: 16_000_000, egressBurst: 160_000 };
const LIMITS = {
  ingress: { rate: 8_000_000, burst: 80_000 },
  egress: { rate: 16_000_000, burst: 160_000 },
};
const parsed = (config: object) => parseBandwidth(requestWith(config));
const asked = (bandwidth: unknown) => parsed({ runtimeConfig: { bandwidth } });

t.test('what is asked for', async (t) => {
  for (const config of [{}, { runtimeConfig: {} }, { runtimeConfig: { bandwidth: null } }, { ingressRate: 0 }]) {
    t.notOk(isLimited(parsed(config)), JSON.stringify(config));
  }
  t.strictSame(asked(BOTH), LIMITS);
  t.strictSame(
    parsed({ RuntimeConfig: { Bandwidth: { IngressRate: 8, IngressBurst: 8 } } }),
    { ingress: { rate: 8, burst: 8 }, egress: undefined },
    'capitals',
  );
  t.strictSame(parsed(BOTH), LIMITS, 'flat keys');
  const flat = { egressRate: 800, egressBurst: 80, runtimeConfig: { bandwidth: BOTH } };
  t.strictSame(parsed(flat), { ingress: undefined, egress: { rate: 800, burst: 80 } }, 'any flat key wins over all');
  t.notOk(isLimited(parsed({ ingressRate: 0, runtimeConfig: { bandwidth: BOTH } })), 'even one that says nothing');
});

t.test('bad amounts are named', async (t) => {
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ ingressRate: 8 }, /ingress: if rate is set, burst must also be set/],
    [{ egressBurst: 8 }, /egress: if burst is set, rate must also be set/],
    [{ egressRate: 8, egressBurst: 8 * 0xffffffff }, /egress: burst cannot be more than 4GB/],
    [{ ingressRate: 7, ingressBurst: 8 }, /ingress: rate and burst are in bits, of which 8 are the least/],
    [{ ingressRate: -1, ingressBurst: 8 }, /ingressRate: expected a whole number from 0 .* got -1/],
    [{ ingressRate: 1.5, ingressBurst: '8' }, /ingressRate: .* got 1\.5; .*ingressBurst: .* got "8"/],
  ];
  for (const [amounts, message] of cases) t.throws(() => asked(amounts), { code: 'invalid-config', message });
  t.doesNotThrow(() => asked({ egressRate: 8, egressBurst: 8 * 0xffffffff - 8 }));
});

t.test("the reference plugin's numbers", async (t) => {
  const cases: readonly (readonly [rate: number, burst: number, expected: object])[] = [
    [8, 8, { rate: 1, burst: 1, limit: 1 }],
    [16, 8, { rate: 2, burst: 1, limit: 1 }],
    [8_000_000, 80_000, { rate: 1_000_000, burst: 10_000, limit: 35_000 }],
    [8_000_007, 80_007, { rate: 1_000_000, burst: 10_000, limit: 35_000 }],
    // What kubelet and containerd send for "no limit on the burst". At 1 Mbit/s it would take an hour to fill.
    [1_000_000, 0xffffffff, { rate: 125_000, burst: 34_359_739, limit: 536_874_036 }],
  ];
  for (const [rate, burst, expected] of cases)
    t.match(tokenBucket('veth1', { rate, burst }), expected, `${rate} ${burst}`);
});

const lines = (steps: readonly Step[]): string[] => steps.map(printStep);

t.test('limits become token buckets, what the pod sends by a device of its own', async (t) => {
  const pair = { host: 'veth1', mtu: 1450, ifb: IFB };
  t.strictSame(lines(diff(EMPTY_STATE, planShaping(LIMITS, pair))), [
    'ip link add ifb0123456789ab mtu 1450 address 02:00:00:00:00:09 up type ifb',
    'tc qdisc replace dev veth1 root handle 1: tbf rate 1000000bps burst 10000 limit 35000',
    'tc qdisc replace dev veth1 ingress',
    'tc qdisc replace dev ifb0123456789ab root handle 1: tbf rate 2000000bps burst 20000 limit 70000',
    'tc filter replace dev veth1 ingress protocol all prio 1 handle 800::800 u32 match u32 0 0 ' +
      'action mirred egress redirect dev ifb0123456789ab',
  ]);
  t.strictSame(lines(diff(EMPTY_STATE, planShaping({ ...LIMITS, egress: undefined }, pair))), [
    'tc qdisc replace dev veth1 root handle 1: tbf rate 1000000bps burst 10000 limit 35000',
  ]);
  t.equal(planShaping({ ...LIMITS, ingress: undefined }, pair).qdiscs.length, 2);
  t.match(ifbOf({ network: 'n', containerId: 'c', ifname: 'eth0' }).name, /^ifb[0-9a-f]{12}$/);
});

/** A fake with a pair whose host's end is veth1. */
function kernelWithPair() {
  const kernel = createFakeKernel();
  const value = { name: 'veth1', kind: 'veth', up: true, peer: { name: 'eth0' } };
  kernel.apply(kernel.host, [{ verb: 'add', item: { type: 'link', value } }]);
  return kernel;
}

t.test('put in place, checked, repaired', async (t) => {
  const kernel = kernelWithPair();
  const want = planShaping(LIMITS, { host: 'veth1', mtu: 1450, ifb: IFB });
  t.equal(shapingDifferences(kernel, want).length, 5);
  shape(kernel, want);
  t.strictSame(shapingDifferences(kernel, want), []);
  const broken: Item[] = [
    { type: 'redirect', value: { device: 'veth1', to: IFB.name } },
    { type: 'qdisc', value: { device: 'veth1', kind: 'ingress' } },
    { type: 'qdisc', value: tokenBucket('veth1', LIMITS.ingress) },
    { type: 'qdisc', value: tokenBucket(IFB.name, LIMITS.egress) },
    { type: 'link', value: { name: IFB.name, kind: 'ifb' } },
  ];
  for (const item of broken) {
    kernel.apply(kernel.host, [{ verb: 'delete', item } as Step]);
    t.not(shapingDifferences(kernel, want).length, 0, item.type);
    shape(kernel, want);
    t.strictSame(shapingDifferences(kernel, want), [], item.type);
  }
  const faster = planShaping(
    { ...LIMITS, ingress: { rate: 9_000_000, burst: 80_000 } },
    { host: 'veth1', mtu: 1450, ifb: IFB },
  );
  t.match(shapingDifferences(kernel, faster), [/^missing: tc qdisc replace dev veth1 root .* rate 1125000bps/]);
});

t.test("another's device of that name stays as it is", async (t) => {
  const kernel = kernelWithPair();
  kernel.apply(kernel.host, [{ verb: 'add', item: { type: 'link', value: { name: IFB.name, kind: 'bridge' } } }]);
  const before = kernel.dump(kernel.host);
  const want = planShaping(LIMITS, { host: 'veth1', mtu: 1450, ifb: IFB });
  t.throws(() => shape(kernel, want), { code: 'foreign-object', message: /already exists but is not an ifb/ });
  t.equal(kernel.dump(kernel.host), before);
  t.throws(() => shape(kernel, planShaping({ ...LIMITS, egress: undefined }, { host: 'nope', mtu: 1450, ifb: IFB })), {
    code: 'kernel',
    errno: 'ENODEV',
  });
});
