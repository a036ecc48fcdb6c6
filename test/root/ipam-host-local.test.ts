// Our ipam and the Go host-local on one directory: by turns, and at the same time.

import t from 'tap';
import { release, reservations } from '../../ipam/verbs.ts';
import { hostLocal, hostLocalAsync, inTurns, ours } from '../compliance/ipam-programs.ts';
import { type IpamRequest, ipamStoreSuite } from '../compliance/ipam-store.ts';
import { count } from '../support/count.ts';
import { IpamCrowd } from '../support/ipam-crowd.ts';

t.test('host-local by itself: the suite tells the truth', async (t) => ipamStoreSuite(t, hostLocal));
t.test('ours and host-local by turns', async (t) => ipamStoreSuite(t, inTurns(ours, hostLocal)));
t.test('host-local and ours by turns', async (t) => ipamStoreSuite(t, inTurns(hostLocal, ours)));

const LANES = 4;
const EACH = 20;
/** Room for exactly both halves: 10.1.4.1 is the gateway, the last is 10.1.4.161. */
const EXACT = [[{ subnet: '10.1.4.0/24', rangeEnd: '10.1.4.161' }]];
const ROUNDS = count(40);

t.test(`both at the same time, ${ROUNDS} times: every address once, each frees what the other reserved`, async (t) => {
  const crowd = new IpamCrowd(EXACT);
  t.teardown(() => crowd.close());
  const config = { cniVersion: '1.0.0', name: 'mynet', type: 'bridge', ipam: { type: 'host-local', ...crowd.ipam } };
  const request = (containerId: string): IpamRequest => ({ config, containerId, ifname: 'eth0' });
  for (let round = 0; round < ROUNDS; round++) {
    const mine = await crowd.startMany(LANES);
    for (const each of mine) each.tell(`hold ${EACH}`);
    const theirs = await inLanes((lane, n) => hostLocalAsync('ADD', request(`go${lane}.${n}`)));
    const failed = theirs.filter(({ ok }) => !ok);
    t.strictSame(failed, []);
    const held = (await Promise.all(mine.map((each) => each.answer()))).flatMap((line) => line.split(' '));
    const got = theirs.flatMap((outcome) => (outcome.ok ? outcome.ips.map(({ address }) => address.slice(0, -3)) : []));
    t.equal(new Set([...held, ...got]).size, 2 * LANES * EACH, 'all different');
    t.notOk(ours('ADD', request('late')).ok, 'and no more');

    await inLanes(async (lane, n) => {
      release(crowd.config, { containerId: `go${lane}.${n}`, ifname: 'eth0' });
      return hostLocalAsync('DEL', request(`${mine[lane]?.name}.${n}`));
    });
    t.strictSame(reservations(crowd.config), []);
    await Promise.all(mine.map((each) => each.end()));
  }
});

/** LANES × EACH runs, LANES at a time. */
async function inLanes<T>(run: (lane: number, n: number) => Promise<T>): Promise<T[]> {
  const lanes = Array.from({ length: LANES }, async (_, lane) => {
    const results: T[] = [];
    for (let n = 0; n < EACH; n++) results.push(await run(lane, n));
    return results;
  });
  return (await Promise.all(lanes)).flat();
}
