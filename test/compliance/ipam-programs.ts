// The programs the ipam-store suite runs against.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { asNetError } from '../../model/errors.ts';
import { type IpamConfig, parseIpam, release, reserve, verify } from '../../ipam/verbs.ts';
import type { Ipam, IpamRequest, IpamSuccess } from './ipam-store.ts';

const HOST_LOCAL = '/usr/lib/cni/host-local';

/** The configuration as our ipam reads it. */
function configOf({ config, cniArgs = '' }: Pick<IpamRequest, 'config' | 'cniArgs'>): IpamConfig {
  const { name, cniVersion, ipam, runtimeConfig, args } = config;
  const pairs = cniArgs === '' ? [] : cniArgs.split(';').map((pair) => pair.split('=') as [string, string]);
  return parseIpam({
    network: String(name),
    cniVersion: String(cniVersion),
    ipam,
    runtimeConfig,
    args,
    cniArgs: new Map(pairs),
  });
}

const NOTHING: IpamSuccess = { ok: true, ips: [], routes: [], dns: {} };

/** Our ipam, in this process. */
export const ours: Ipam = (command, request) => {
  const { containerId, ifname } = request;
  try {
    const config = configOf(request);
    if (command === 'ADD') return { ok: true, ...reserve(config, { containerId, ifname }) };
    if (command === 'DEL') release(config, { containerId, ifname });
    else verify(config, { containerId, ifname }, []);
    return NOTHING;
  } catch (error) {
    const { code, message } = asNetError(error);
    return { ok: false, code, message };
  }
};

/** The Go program, executed as a runtime does. */
export const hostLocal: Ipam = (command, request) => {
  const { env, input } = invocation(command, request);
  return outcomeOf(spawnSync(HOST_LOCAL, { env, input, encoding: 'utf8' }));
};

/** The same without waiting: many at once. */
export async function hostLocalAsync(...[command, request]: Parameters<Ipam>): Promise<ReturnType<Ipam>> {
  const { env, input } = invocation(command, request);
  const child = spawn(HOST_LOCAL, { env, stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.end(input);
  const [stdout, [status]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return outcomeOf({ status, stdout });
}

function invocation(...[command, { config, containerId, ifname, cniArgs = '' }]: Parameters<Ipam>) {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerId,
    CNI_NETNS: '/proc/1/ns/net',
    CNI_IFNAME: ifname,
    CNI_PATH: '/usr/lib/cni',
    CNI_ARGS: cniArgs,
  };
  return { env, input: JSON.stringify(config) };
}

function outcomeOf({ status, stdout }: { readonly status: number | null; readonly stdout: string }): ReturnType<Ipam> {
  const { cniVersion: _, ...printed } = stdout === '' ? {} : JSON.parse(stdout);
  return status === 0 ? { ...NOTHING, ...printed } : { ok: false, message: String(printed.msg) };
}

/** The programs by turns, a request each. */
export function inTurns(...programs: readonly Ipam[]): Ipam {
  let calls = 0;
  return (command, request) => (programs[calls++ % programs.length] as Ipam)(command, request);
}
