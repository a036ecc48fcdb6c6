// How the rows of 2d talk to the address management plugin and look into its directory.

import { refused, resultOf, type Refusal, printed } from '../expect.ts';
import type { Attachment, Json, Stage } from '../stage.ts';
import { STORE } from './attached.ts';

/** A configuration as a main plugin hands it on: its own type, the section `ipam` for the one that is executed. */
export const ipamConfig = (stage: Stage, ipam: Json, keys: Json = {}): Json =>
  stage.config('bridge', { ipam: { type: 'host-local', ...ipam }, ...keys });

export const add = (stage: Stage, config: Json, attachment: Attachment = {}) =>
  stage.cni('ipam', 'ADD', config, { netns: '/some/where', ...attachment });

export const del = (stage: Stage, config: Json, attachment: Attachment = {}) =>
  stage.cni('ipam', 'DEL', config, { netns: '/some/where', ...attachment });

/** The addresses that ADD gives, with their lengths. */
export const allocated = async (stage: Stage, config: Json, attachment: Attachment = {}): Promise<string[]> =>
  resultOf(stage, await add(stage, config, attachment)).ips.map(({ address }) => address);

/** ADD is refused. */
export const refusedAdd = async (
  stage: Stage,
  config: Json,
  refusal: Refusal,
  attachment: Attachment = {},
): Promise<Json> => refused(stage, await add(stage, config, attachment), refusal, 'ADD');

export const added = async (stage: Stage, config: Json, attachment: Attachment = {}): Promise<Json> =>
  printed(await add(stage, config, attachment));

/** Content of a network's files as JSON strings, by name. Absent files are absent. */
export async function filesOf(stage: Stage, network = 'testnet'): Promise<Readonly<Record<string, string>>> {
  const script = `cd ${STORE}/${network} 2>/dev/null || exit 0; for f in $(ls); do printf '%s\\001' "$f"; cat "$f"; printf '\\002'; done`;
  const entries = (await stage.sh(script)).split('\u0002').filter((entry) => entry !== '');
  return Object.fromEntries(entries.map((entry) => entry.split('\u0001') as [string, string]));
}

/** Fills a network's directory as host-local would have left it. */
export async function fill(stage: Stage, network: string, files: Readonly<Record<string, string>>): Promise<void> {
  const writes = Object.entries(files).map(([name, content]) => `printf '${content}' > ${STORE}/${network}/${name}`);
  await stage.sh([`mkdir -p ${STORE}/${network}`, ...writes].join('\n'));
}

export const CONTENT = (containerId: string, ifname = 'eth0'): string => `${containerId}\r\n${ifname}`;
