// Each defect that was measured in flannel, and each trouble that its users report, has a test here that shows what happens
// instead. Such a test begins with their letters and numbers: 'defect C, report 10: …'.

import { globSync, readFileSync } from 'node:fs';
import t from 'tap';

/** Measured, with the letters of the list that the tests' titles use. */
const DEFECTS: Readonly<Record<string, string>> = {
  A: 'a race lost at the start is fatal',
  B: 'stale routes, forwarding entries and neighbours after a restart during which a peer left',
  C: "a peer's new MAC leaves the old forwarding entry",
  D: 'a deleted device is not made again',
  E: 'a deleted route is not restored',
  F: 'the own lease deleted, or SIGTERM: a panic',
  G: 'a reservation becomes a lease that expires',
  H: 'an entry that is missing delays the next peer by 51.7 s',
  I: 'two calls for each lease at every start',
  J: 'dual stack in Kubernetes: a change of one family is dropped',
  K: 'the second snapshot of a watch reports the own lease as removed',
};

const REPORTS: Readonly<Record<number, string>> = {
  1: 'policies are silently not enforced',
  2: 'there is no subnet file after a reboot',
  3: 'VXLAN checksum offload: connections that are dropped or take a minute',
  4: 'addresses leak after a crash',
  5: 'the address of the node changes',
  6: 'the lease is not renewed, or revoked: the daemon exits',
  7: 'two nodes have one subnet',
  8: 'a lost race at the start is fatal',
  9: 'the watch is stuck after a compaction or a lost connection',
  10: 'stale routes, forwarding entries and neighbours',
  11: 'routes to some peers are missing, and nobody notices',
  12: 'a deleted device: no traffic until a restart',
  13: 'udev changes the MAC of the device',
  14: 'iptables: order, duplicates, contention, restoring',
  15: 'Docker, firewalld and others drop what is forwarded',
  16: 'masquerading hides the source',
  17: 'races for source ports, translated twice',
  18: 'the wrong interface is picked',
  19: 'no subnet is assigned yet: a crash loop',
  20: 'the MTU is wrong, or fixed',
  21: 'gaps in IPv6 and dual stack',
  22: 'no start without bridge filters',
  23: 'the bridge keeps an old address',
  24: 'the deletion of a pod is stuck, or leaks',
  25: 'reservations, sizes of subnets, fixed addresses',
  26: 'neither metrics nor a status',
};

/** Where what is not here is, or why it can't be yet. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'report 1': 'policies: test/root/policy-packets.test.ts, test/root/policy.test.ts, test/cluster/policy.test.ts',
  'report 4': 'the plugin: test/cni-plugin/reclaim.test.ts, test/root/ipam-crash.test.ts',
  'report 23': 'the plugin: test/cni/rows/bridge-options.ts',
  'report 24': 'the plugin: test/root/cni-crash.test.ts, test/root/client-spool.test.ts',
};

/** What the titles of a file's tests are about: "defect C". */
function subjects(source: string): string[] {
  const titles = [...source.matchAll(/\bt\.test\(\s*(?:'([^']*)'|"([^"]*)"|`([^`]*)`)/g)];
  return titles.flatMap(([, ...forms]) => {
    const [list = ''] = /^(?:(?:defect [A-Z]|report \d+)(?:, )?)+(?=: )/.exec(forms.find(Boolean) ?? '') ?? [];
    return list === '' ? [] : list.split(', ');
  });
}

const wanted = [
  ...Object.keys(DEFECTS).map((letter) => `defect ${letter}`),
  ...Object.keys(REPORTS).map((row) => `report ${row}`),
];

t.test('how titles are read', async (t) => {
  const source = `t.test('defect A, report 7: x', f); t.test("report 26: it's", f); t.test(\`report 5: \${x}\`, f); t.test('report x: y', f); t.test('a: b', f);`;
  t.strictSame(subjects(source), ['defect A', 'report 7', 'report 26', 'report 5']);
});

t.test('every defect and every report has its test, or stands elsewhere', async (t) => {
  const covered = new Set(globSync('test/**/*.test.ts').flatMap((path) => subjects(readFileSync(path, 'utf8'))));
  t.strictSame(
    wanted.filter((subject) => !covered.has(subject) && ELSEWHERE[subject] === undefined),
    [],
    'none is forgotten',
  );
  t.strictSame(
    [...covered].filter((subject) => !wanted.includes(subject)),
    [],
    'no title names what is not in the list',
  );
  t.strictSame(
    Object.keys(ELSEWHERE).filter((subject) => covered.has(subject)),
    [],
    'none is in both',
  );
});

t.test('what stands elsewhere is there', async (t) => {
  const files = new Set(globSync('test/**/*.ts'));
  const named = Object.values(ELSEWHERE).flatMap((where) => where.match(/test\/\S+\.ts/g) ?? []);
  t.strictSame(
    named.filter((path) => !files.has(path)),
    [],
  );
});
