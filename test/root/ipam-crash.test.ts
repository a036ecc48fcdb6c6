// Many processes on one directory: no address twice, and none of them can be killed at a moment that leaves something
// half-written or an address that DEL can't free.

import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { release, reservations, reserve } from '../../ipam/verbs.ts';
import { count } from '../support/count.ts';
import { IpamCrowd } from '../support/ipam-crowd.ts';
import type { IpamProcess } from '../support/ipam-processes.ts';
import { below, random } from '../support/seed.ts';

const PROCESSES = 64;
const EACH = 15;
/** Room for exactly PROCESSES × EACH addresses: 10.1.4.1 is the gateway, the last is 10.1.7.193. */
const EXACT = [[{ subnet: '10.1.4.0/22', rangeEnd: '10.1.7.193' }]];
/** A little more than the processes need at a time, so that they meet. */
const TIGHT = [[{ subnet: '10.1.4.0/25' }], [{ subnet: 'fd00::/121' }]];
const ROUNDS = count(500);

t.test(`${PROCESSES} processes allocating at once from one range never get an address twice`, async (t) => {
  const crowd = new IpamCrowd(EXACT);
  t.teardown(() => crowd.close());
  const processes = await crowd.startMany(PROCESSES);
  for (const each of processes) each.tell(`hold ${EACH}`);
  const answers = await Promise.all(processes.map((each) => each.answer()));
  const held = answers.flatMap((line) => line.split(' '));
  t.equal(held.length, PROCESSES * EACH);
  t.equal(new Set(held).size, PROCESSES * EACH, 'all different');
  t.throws(() => reserve(crowd.config, { containerId: 'late', ifname: 'eth0' }), { code: 'no-addresses' });
  t.strictSame(malformed(crowd), []);
  for (const each of processes) each.tell('free');
  await Promise.all(processes.map((each) => each.answer()));
  emptied(t, crowd);
});

t.test(`${PROCESSES} processes, one of them killed at a random moment, ${ROUNDS} times`, async (t) => {
  const next = random('ipam-crash');
  const crowd = new IpamCrowd(TIGHT);
  t.teardown(() => crowd.close());
  const processes = await crowd.startMany(PROCESSES);
  let inside = 0;
  let traced = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const [victim] = processes.splice(below(processes.length, next), 1) as [IpamProcess];
    const others = processes.filter(() => next() < 0.25);
    victim.tell('churn 1000000');
    for (const each of others) each.tell('churn 3');
    while (!victim.inside()) await sleep(1);
    await sleep(next() * 20);
    await victim.kill();
    if (victim.inside()) inside++;
    if (tracesOf(victim, crowd).length > 0) traced++;
    const broken = malformed(crowd);
    if (broken.length > 0) t.fail(`half-written: ${broken.join(', ')}`);
    forgetClaims(victim, crowd);
    release(crowd.config, { containerId: `${victim.name}.0`, ifname: 'eth0' });
    const left = tracesOf(victim, crowd);
    if (left.length > 0) t.fail(`left after DEL: ${left.join(', ')}`);
    for (const each of others) await each.answer();
    processes.push(await crowd.start());
  }
  t.comment(`${ROUNDS} kills: ${inside} inside a verb, ${traced} with something to undo`);
  t.ok(inside >= ROUNDS * 0.4, `${inside} of ${ROUNDS} kills between the first and the last effect`);
  emptied(t, crowd);
});

/** What stands in the directory and is neither a whole reservation of one of ours nor a whole last_reserved_ip. */
function malformed({ directory }: IpamCrowd): string[] {
  return readdirSync(directory).flatMap((name) => {
    const content = ifThere(() => readFileSync(join(directory, name), 'utf8'));
    const whole = name.startsWith('last_reserved_ip.')
      ? /^(10\.1\.\d+\.\d+|fd00::[0-9a-f]{1,4})$/
      : /^p\d+\.\d+\r\neth0$/;
    return content === undefined || whole.test(content) ? [] : [`${name}: ${JSON.stringify(content)}`];
  });
}

/** Where the process still stands written: as a reservation or as a file of ours outside the directory. */
function tracesOf({ name }: IpamProcess, { config }: IpamCrowd): string[] {
  const own = readdirSync(join(config.dataDir, '.flannel-tmp/mynet')).filter((file) => file.includes(`${name}.`));
  const held = reservations(config).filter(({ owner }) => owner?.containerId === `${name}.0`);
  return [...own, ...held.map(({ ip }) => ip)];
}

function forgetClaims({ name }: IpamProcess, { claims }: IpamCrowd): void {
  for (const file of readdirSync(claims)) {
    if (ifThere(() => readlinkSync(join(claims, file))) === name) rmSync(join(claims, file));
  }
}

/** What was read; undefined when the file went meanwhile. */
function ifThere(read: () => string): string | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Nothing is reserved any more, and nothing of ours left. */
function emptied(t: Test, { config, claims }: IpamCrowd): void {
  t.strictSame(reservations(config), []);
  t.strictSame(readdirSync(join(config.dataDir, '.flannel-tmp/mynet')), []);
  t.strictSame(readdirSync(claims), []);
}
