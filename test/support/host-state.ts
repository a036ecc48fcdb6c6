// Everything of a machine's network that an agent could have a hand in, as a person's tools show it, a line for each thing,
// sorted. What differs between two equal states is left out: indexes, counters, times, link-local addresses, what the kernel
// says with a delay.

import type { Machine } from '../../examples/cluster/machine.ts';

const QUESTIONS = {
  links: 'ip -j -d link show',
  addresses: 'ip -j addr show',
  routes: 'ip -j -d -4 route show table all',
  routes6: 'ip -j -d -6 route show table all',
  neighbours: 'ip -j -4 neigh show nud permanent',
  neighbours6: 'ip -j -6 neigh show nud permanent',
  fdb: 'bridge -j fdb show',
  rules: 'nft --stateless list ruleset',
  sysctls: `grep -rs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv*/conf/flannel* /proc/sys/net/ipv*/conf/eth0 | grep -v -e stable_secret -e ra_ || true`,
} as const;

type Answers = Readonly<Record<keyof typeof QUESTIONS, string>>;
type Fields = Readonly<Record<string, unknown>>;

/** What the kernel makes of each device by itself, after it has looked for duplicates. */
const LINK_LOCAL = /"(local|dst)":"fe80::/;

const SEPARATOR = '<next>';

/** @throws Error when one of the tools fails */
export async function hostState(machine: Machine): Promise<string[]> {
  const script = Object.values(QUESTIONS).join(`; echo '${SEPARATOR}'; `);
  const parts = (await machine.must('sh', ['-c', script])).split(SEPARATOR);
  const answers = Object.fromEntries(
    Object.keys(QUESTIONS).map((name, index) => [name, (parts[index] ?? '').trim()]),
  ) as Answers;
  return [
    ...objects(answers.links).map(link),
    ...objects(answers.addresses).flatMap(addresses),
    ...[...objects(answers.routes), ...objects(answers.routes6)].map(route),
    ...[...objects(answers.neighbours), ...objects(answers.neighbours6)].map((fields) => line('neighbour', fields)),
    ...objects(answers.fdb)
      .filter(({ ifname }) => String(ifname).startsWith('flannel'))
      .map((fields) => line('fdb', fields)),
    ...rules(answers.rules),
    ...answers.sysctls.split('\n').map((text) => text.replace('/proc/sys/', 'sysctl ')),
  ]
    .filter((text) => !LINK_LOCAL.test(text))
    .sort();
}

const objects = (json: string): Fields[] =>
  (json === '' ? [] : JSON.parse(json)).filter((each: object) => Object.keys(each).length > 0);
const line = (kind: string, fields: unknown): string => `${kind} ${JSON.stringify(fields)}`;

function link({ ifname, mtu, address, flags, master, linkinfo, inet6_addr_gen_mode }: Fields): string {
  const { info_kind, info_data } = (linkinfo ?? {}) as Fields;
  const steady = (flags as string[]).filter((flag) => !['LOWER_UP', 'NO-CARRIER'].includes(flag)).sort();
  // A bridge's data are full of timers.
  const data = info_kind === 'bridge' ? undefined : info_data;
  return line('link', { ifname, mtu, address, steady, master, info_kind, data, inet6_addr_gen_mode });
}

const addresses = ({ ifname, addr_info }: Fields): string[] =>
  ((addr_info ?? []) as Fields[]).map(({ local, prefixlen, scope, label }) =>
    line('address', { ifname, local, prefixlen, scope, label }),
  );

function route({ flags, metrics, ...fields }: Fields): string {
  const steady = ((flags ?? []) as string[]).filter((flag) => !['linkdown', 'dead'].includes(flag));
  return line('route', { ...fields, metrics, steady });
}

/** Each line with its place: chains may stand in any order, what stands in a chain may not. */
function rules(text: string): string[] {
  const open: string[] = [];
  const found: string[] = [];
  let number = 0;
  for (const each of text.split('\n').map((line) => line.trim())) {
    if (each === '' || each === '}') {
      open.splice(each === '' ? open.length : -1);
      continue;
    }
    number = each.endsWith('{') ? 0 : number + 1;
    found.push(['rule', ...open, ...(each.endsWith('{') ? [] : [String(number)]), each].join(' '));
    if (each.endsWith('{')) open.push(each.slice(0, -1).trim());
  }
  return found;
}

/** What one has and the other has not, a line each; nothing when they are equal. */
export const stateDifference = (have: readonly string[], want: readonly string[]): string[] => [
  ...have.filter((each) => !want.includes(each)).map((each) => `too much: ${each}`),
  ...want.filter((each) => !have.includes(each)).map((each) => `missing: ${each}`),
];
