// What the cases of the kernel suite look at, in short.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Query } from '../../kernel/kernel.ts';
import type { Address, FdbEntry, Link, Neighbour, Route, State, Sysctl } from '../../model/state.ts';
import type { Subject } from './kernel-subject.ts';

/** Reads a part of the namespace. */
export const read = ({ kernel, namespace }: Subject, query: Query): State => kernel.read(namespace, query);

export const linkNames = (subject: Subject, where = subject.namespace): string[] =>
  subject.kernel
    .read(where, { links: 'all' })
    .links.map(({ name }) => name)
    .sort();

export function link(subject: Subject, name: string, where = subject.namespace): Link {
  const [found] = subject.kernel.read(where, { links: [name] }).links;
  if (found === undefined) throw new Error(`no link ${name}`);
  return found;
}

/** "10.1.0.1/24" of the devices, link-local ones left out: they come when the carrier does. */
export const addresses = (subject: Subject, ...devices: string[]): string[] =>
  read(subject, { addresses: devices })
    .addresses.filter(({ address, scope }) => scope !== 'link' && address)
    .map(({ address }: Address) => address as string)
    .sort();

/** Routes as `ip` lines without the protocol, link-local ones left out. */
export const routes = (subject: Subject, family?: 4 | 6): string[] =>
  read(subject, { routes: { families: family === undefined ? [4, 6] : [family] } })
    .routes.filter(({ destination }) => !destination.startsWith('fe80:'))
    .map((route: Route) => {
      const { destination, device, via, source, metric, type, onlink } = route;
      const words = [
        type === 'blackhole' && type,
        destination,
        via && `via ${via}`,
        device && `dev ${device}`,
        source && `src ${source}`,
      ];
      return [...words, metric && `metric ${metric}`, onlink && 'onlink'].filter(Boolean).join(' ');
    })
    .sort();

export const neighbours = (subject: Subject, ...devices: string[]): string[] =>
  read(subject, { neighbours: devices })
    .neighbours.map(({ ip, mac, device }: Neighbour) => `${ip} ${mac} ${device}`)
    .sort();

export const fdb = (subject: Subject, ...devices: string[]): string[] =>
  read(subject, { fdb: devices })
    .fdb.map(({ mac, destination, device }: FdbEntry) => `${mac} ${destination} ${device}`)
    .sort();

export const sysctls = (subject: Subject, ...keys: string[]): string[] =>
  read(subject, { sysctls: keys }).sysctls.map(({ key, value }: Sysctl) => `${key}=${value}`);

/** Without fields that are there but undefined: they mean the same as absent ones. */
export const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** What the kernel does in its own time: carrier, link-local addresses, the end of a namespace. */
export async function eventually<T>(t: Test, found: () => T, expected: T, message: string): Promise<void> {
  for (let tries = 0; tries < 60 && JSON.stringify(found()) !== JSON.stringify(expected); tries++) await sleep(50);
  t.strictSame(found(), expected, message);
}

/** Some fields of a link. */
export const shown = (subject: Subject, name: string, ...keys: string[]) => {
  const found = link(subject, name) as unknown as Record<string, unknown>;
  return keys.map((key) => found[key]);
};
