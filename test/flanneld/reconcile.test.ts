// From any state of the host to any other: what is there afterwards is what a fresh start gives, whatever was there before,
// in the order of the list and in random order (tailscale's TestRouterStates). Peers, devices and rules that are stale go;
// what isn't ours stays.

import t, { type Test } from 'tap'
import { applyDifference, examine, printDifference, type Target } from '../../flanneld/difference.ts'
import { targetOf } from '../../flanneld/hold.ts'
import type { NetworkConfig } from '../../flanneld/network-config.ts'
import { prepare } from '../../flanneld/prepare.ts'
import { type Run, startReconciler } from '../../flanneld/reconcile.ts'
import type { FakeKernel } from '../../kernel/fake.ts'
import { throwFirst } from '../../kernel/kernel.ts'
import { type Family, ip, mac, prefix } from '../../model/ip.ts'
import type { Lease } from '../../model/lease.ts'
import type { Step } from '../../model/steps.ts'
import { dumpSorted, fakeHost, testClock, testLog } from './fixtures/host.ts'
import { farLease, NETWORKS, networkOf, NODE_ID, OTHER_NETWORK, ourLease, peerLease } from './fixtures/world.ts'

interface Wanted {
  readonly what: string
  readonly options: Readonly<Record<string, unknown>>
  readonly families: readonly Family[]
  readonly peers?: readonly Lease[]
  readonly removals?: boolean
  readonly masquerade?: boolean
}

const SETTINGS = { masquerade: true, masqueradeFullyRandom: true, forwardRules: true, blackholeRoute: false }
const CONFIG = { interface: { names: [], expressions: [], canReach: undefined }, publicIp: {} }

/** What the agent would hold the host to, started anew on what is there. */
function target(kernel: FakeKernel, { options, families, peers = [], removals = true, masquerade = true }: Wanted): Target {
  const previous = { networks: [NETWORKS[4], NETWORKS[6]], subnet: {} }
  const network = networkOf(families, options)
  const prepared = prepare({ kernel, config: CONFIG, network, nodeId: NODE_ID, previous, store: undefined })
  return targetOf(prepared, { ...SETTINGS, masquerade }, ourLease(families, prepared.backend.publishedType), peers, removals)
}

/** One run, which must succeed and leave nothing to do. */
function settle(t: Test, kernel: FakeKernel, wanted: Wanted): void {
  const { failures, rulesError } = applyDifference(kernel, examine(kernel, target(kernel, wanted)))
  t.same(failures.map(({ error }) => error.message), [], `${wanted.what}: nothing fails`)
  t.equal(rulesError, undefined)
  t.same(printDifference(examine(kernel, target(kernel, wanted))), [], `${wanted.what}: a second run finds nothing to do`)
}

function fresh(t: Test, wanted: Wanted): string {
  const kernel = fakeHost()
  settle(t, kernel, wanted)
  return dumpSorted(kernel)
}

const step = (verb: 'add' | 'replace' | 'delete', item: Step['item']): Step => ({ verb, item }) as Step
const apply = (kernel: FakeKernel, ...steps: readonly Step[]) => throwFirst(kernel.apply(kernel.host, steps))

const VXLAN = { Type: 'vxlan' }
const STATES: readonly Wanted[] = [
  { what: 'vxlan, no peers', options: VXLAN, families: [4] },
  { what: 'vxlan, two peers', options: VXLAN, families: [4], peers: [peerLease([4], 2), peerLease([4], 3)] },
  { what: 'one of them has a new address', options: VXLAN, families: [4], peers: [peerLease([4], 2, { host: 22 }), peerLease([4], 3)] },
  { what: 'one of them has a new MAC', options: VXLAN, families: [4], peers: [peerLease([4], 2, { mac: '02:00:00:00:00:22' })] },
  { what: 'they swap their MACs', options: VXLAN, families: [4], peers: [peerLease([4], 2, { mac: '02:00:00:00:00:03' }), peerLease([4], 3, { mac: '02:00:00:00:00:02' })] },
  { what: 'dual stack', options: VXLAN, families: [4, 6], peers: [peerLease([4, 6], 2), peerLease([4, 6], 3)] },
  { what: 'IPv6 only', options: VXLAN, families: [6], peers: [peerLease([6], 2)] },
  { what: 'another VNI', options: { Type: 'vxlan', VNI: 7 }, families: [4], peers: [{ ...peerLease([4], 2), backendData: { 4: { VNI: 7, VtepMAC: '02:00:00:00:00:02' } } }] },
  { what: 'another port', options: { Type: 'vxlan', Port: 4789 }, families: [4], peers: [peerLease([4], 2)] },
  { what: 'another MTU', options: { Type: 'vxlan', MTU: 1400 }, families: [4], peers: [peerLease([4], 2)], masquerade: false },
  { what: 'direct routing', options: { Type: 'vxlan', DirectRouting: true }, families: [4, 6], peers: [peerLease([4, 6], 2), farLease([4, 6])] },
  { what: 'host-gw', options: { Type: 'host-gw' }, families: [4], peers: [peerLease([4], 2, { type: 'host-gw' })] },
  { what: 'host-gw, dual stack', options: { Type: 'host-gw' }, families: [4, 6], peers: [peerLease([4, 6], 2, { type: 'host-gw' }), peerLease([4, 6], 3, { type: 'host-gw' })] },
  { what: 'alloc', options: { Type: 'alloc' }, families: [4] },
]

/** The MAC of a device that stays is kept, so the dumps of two ways to a state differ in nothing but that. */
const sameBut = (text: string): string => text.replaceAll(/(dev|add) (flannel\S*)( mtu \d+)? address \S+/g, '$1 $2$3')

t.test('states in their order, then in random order', async (t) => {
  const expected = STATES.map((wanted) => sameBut(fresh(t, wanted)))
  const kernel = fakeHost()
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const order = [...STATES.keys(), ...randomOrder(seed, 5 * STATES.length)]
  for (const index of order) {
    settle(t, kernel, STATES[index] as Wanted)
    t.equal(sameBut(dumpSorted(kernel)), expected[index], (STATES[index] as Wanted).what)
  }
})

/** `count` indexes of STATES by a linear congruential generator. */
function randomOrder(seed: number, count: number): number[] {
  let state = seed
  return Array.from({ length: count }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return Math.floor((state / 2 ** 31) * STATES.length)
  })
}

t.test('what was taken away comes back, with all peers', async (t) => {
  const wanted = STATES[5] as Wanted
  const expected = fresh(t, wanted)
  const gone: readonly [string, Step][] = [
    ['the device', step('delete', { type: 'link', value: { name: 'flannel.1', kind: 'vxlan' } })],
    ['its address', step('delete', { type: 'address', value: { device: 'flannel.1', address: prefix('10.244.1.0/32') } })],
    ['a route', step('delete', { type: 'route', value: { destination: prefix('10.244.2.0/24'), device: 'flannel.1' } })],
    ['a neighbour', step('delete', { type: 'neighbour', value: { device: 'flannel.1', ip: ip('10.244.2.0'), mac: mac('02:00:00:00:00:02') } })],
    ['a forwarding entry', step('delete', { type: 'fdb', value: { device: 'flannel.1', mac: mac('02:00:00:00:00:02'), destination: ip('192.168.50.2') } })],
    ['the right MAC', { verb: 'change', item: { type: 'link', value: { name: 'flannel.1', kind: 'vxlan', mac: mac('06:00:00:00:00:99') } } }],
    ['up', { verb: 'change', item: { type: 'link', value: { name: 'flannel.1', kind: 'vxlan', up: false } } }],
  ]
  for (const [what, taking] of gone) {
    const kernel = fakeHost()
    const held = target(kernel, wanted)
    applyDifference(kernel, examine(kernel, held))
    apply(kernel, taking)
    applyDifference(kernel, examine(kernel, held))
    t.equal(dumpSorted(kernel), expected, what)
  }
  const kernel = fakeHost()
  settle(t, kernel, wanted)
  kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] })
  settle(t, kernel, wanted)
  t.equal(dumpSorted(kernel), expected, 'the rules')
})

t.test('leftovers of flannel are taken over, what is not ours stays', async (t) => {
  const kernel = fakeHost()
  const wanted: Wanted = { what: 'host-gw', options: { Type: 'host-gw' }, families: [4], peers: [peerLease([4], 2, { type: 'host-gw' })] }
  const route = (destination: string, protocol: number, via = '192.168.50.2') =>
    step('add', { type: 'route', value: { destination: prefix(destination), via: ip(via), device: 'eth0', protocol } })
  const foreign = [route('10.244.70.0/24', 4), route('10.244.71.0/24', 3, '192.168.50.77'), route('10.99.3.0/24', 251), route('172.20.0.0/16', 3)]
  apply(
    kernel,
    step('add', { type: 'link', value: { name: 'flannel.1', kind: 'vxlan', up: true, mtu: 1450, vxlan: { vni: 1, port: 8472, device: 'eth0', local: ip('192.168.50.1') } } }),
    step('add', { type: 'address', value: { device: 'flannel.1', address: prefix('10.244.1.0/32') } }),
    step('add', { type: 'route', value: { destination: prefix('10.244.3.0/24'), via: ip('10.244.3.0'), device: 'flannel.1', onlink: true, protocol: 3 } }),
    route('10.244.2.0/24', 3),
    route('10.244.8.0/24', 3),
    ...foreign,
  )
  settle(t, kernel, wanted)
  const expected = fakeHost()
  apply(expected, ...foreign)
  settle(t, expected, wanted)
  t.equal(dumpSorted(kernel), dumpSorted(expected), 'the old device and routes by peers are gone; static, other gateways, other networks stay')
})

t.test('two agents on one host never see each other', async (t) => {
  const kernel = fakeHost()
  const wanted = STATES[1] as Wanted
  settle(t, kernel, wanted)
  const ours = dumpSorted(kernel).split('\n')
  const other = otherAgent(kernel)
  applyDifference(kernel, examine(kernel, other))
  const both = dumpSorted(kernel)
  t.same(ours.filter((line) => !both.includes(line)), [], 'the other takes nothing of ours')
  t.same(printDifference(examine(kernel, target(kernel, wanted))), [], 'and we nothing of the other')
  t.match(both, /flannel\.9 .*10\.99\.4\.0|10\.99\.4\.0.* flannel\.9/)
})

/** An agent with 10.99.0.0/16 and VNI 9. */
function otherAgent(kernel: FakeKernel): Target {
  const network: NetworkConfig = {
    families: { 4: { network: OTHER_NETWORK, subnetLength: 24, subnetMin: prefix('10.99.1.0/24'), subnetMax: prefix('10.99.255.0/24') } },
    backend: { type: 'vxlan', options: { VNI: 9 } },
  }
  const prepared = prepare({ kernel, config: CONFIG, network, nodeId: 'other', previous: { networks: [], subnet: {} }, store: undefined })
  const self = { ...ourLease([4]), subnet: { 4: prefix('10.99.1.0/24') } }
  const peer = { ...peerLease([4], 2), subnet: { 4: prefix('10.99.4.0/24') }, backendData: { 4: { VNI: 9, VtepMAC: '02:00:00:00:00:02' } } }
  return targetOf(prepared, SETTINGS, self, [peer], true)
}

t.test('without removals nothing goes', async (t) => {
  const kernel = fakeHost()
  settle(t, kernel, STATES[1] as Wanted)
  const before = dumpSorted(kernel)
  settle(t, kernel, { ...(STATES[0] as Wanted), removals: false })
  t.equal(dumpSorted(kernel), before)
})

/** A loop over the fake, with its runs. */
function loop(kernel: FakeKernel, current: () => Wanted | undefined) {
  const clock = testClock()
  const log = testLog()
  const runs: Run[] = []
  const reconciler = startReconciler({
    kernel,
    clock,
    log,
    resyncMs: 5000,
    target: () => {
      const wanted = current()
      return wanted && target(kernel, wanted)
    },
    onRun: (run) => void runs.push(run),
  })
  return { clock, log, runs, reconciler }
}

t.test('the loop', async (t) => {
  const kernel = fakeHost()
  let wanted: Wanted | undefined
  const { clock, runs, reconciler } = loop(kernel, () => wanted)
  const before = dumpSorted(kernel)
  reconciler.trigger('start')
  clock.advance(20_000)
  t.equal(runs.length, 0, 'nothing is known: nothing is touched')
  t.equal(dumpSorted(kernel), before)
  wanted = STATES[1] as Wanted
  reconciler.trigger('leases')
  reconciler.trigger('leases')
  reconciler.trigger('link')
  clock.advance(0)
  t.match(runs, [{ reasons: ['leases', 'link'], problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] }], 'at once, and once')
  reconciler.trigger('leases')
  clock.advance(10)
  t.equal(runs.length, 1, 'close to the last: a little later')
  clock.advance(10)
  t.match(runs[1], { changes: 0 })
  apply(kernel, step('delete', { type: 'route', value: { destination: prefix('10.244.2.0/24'), device: 'flannel.1' } }))
  clock.advance(5000)
  t.match(runs[2], { reasons: ['resync'], changes: 1 })
  reconciler.stop()
  clock.advance(60_000)
  t.equal(runs.length, 3)
})

t.test('one peer that cannot be programmed delays nobody, and is tried again', async (t) => {
  const kernel = fakeHost()
  const { clock, runs, log, reconciler } = loop(kernel, () => STATES[1])
  for (let count = 0; count < 2; count++) kernel.failNext(/route replace 10\.244\.2\.0/, 'ENOMEM')
  reconciler.trigger('leases')
  clock.advance(0)
  t.match(runs[0], { problems: [], peers: [{ key: '10.244.2.0-24', state: 'failed', reason: /ENOMEM/ }, { key: '10.244.3.0-24', state: 'programmed' }] })
  clock.advance(99)
  t.equal(runs.length, 1)
  clock.advance(1)
  t.match(runs[1], { reasons: ['retry'], peers: [{ state: 'failed' }, {}] })
  clock.advance(200)
  t.match(runs[2], { peers: [{ state: 'programmed' }, { state: 'programmed' }] })
  t.equal(log.lines.filter((line) => line.includes('10.244.2.0-24 failed')).length, 2, 'said once, and once that it is over')
})

t.test("trouble with the node's own part", async (t) => {
  const kernel = fakeHost()
  const { clock, runs, reconciler } = loop(kernel, () => STATES[1])
  kernel.failNext(/ip link add flannel\.1/, 'EPERM')
  kernel.failNext(/add chain inet flannel/, 'EBUSY')
  reconciler.trigger('leases')
  clock.advance(0)
  t.match(runs[0]?.problems[0], /change table inet flannel: EBUSY/)
  t.match(runs[0]?.problems[1], /ip link add flannel\.1.*EPERM/)
  clock.advance(1000)
  t.match(runs.at(-1), { problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] })
})

t.test('a host that cannot be read', async (t) => {
  const kernel = fakeHost()
  const held = target(kernel, STATES[1] as Wanted)
  let broken = true
  const read: FakeKernel['read'] = (...args) => {
    if (broken) throw new Error('netlink is gone')
    return kernel.read(...args)
  }
  const clock = testClock()
  const runs: Run[] = []
  startReconciler({ kernel: { ...kernel, read }, clock, log: testLog(), resyncMs: 5000, target: () => held, onRun: (run) => void runs.push(run) })
    .trigger('leases')
  clock.advance(0)
  t.match(runs, [{ problems: ['netlink is gone'], peers: [] }])
  broken = false
  clock.advance(100)
  t.match(runs[1], { problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] })
})
