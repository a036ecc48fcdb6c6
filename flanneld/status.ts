// `flanneld status`: asks the agent's socket and says it in words. Exit codes: 0 ready and nothing differs, 1 otherwise,
// 2 no agent answers.

import { asNetError, ERRORS } from '../model/errors.ts';
import { cniLines } from './cni/view.ts';
import type { ProbeStatus } from './probe/prober.ts';
import { firewallRemarks } from './firewall/findings.ts';
import { hostLines } from './host-settings.ts';
import { request } from './http.ts';
import type { AgentStatus } from './agent-status.ts';
import { noAgent, statusSocketPath } from './status-socket.ts';

const TIMEOUT_MS = 5000;
/** Differences that are written out for people. */
const SHOWN_DIFFERENCES = 20;

export interface Report {
  readonly text: string;
  readonly exitCode: 0 | 1 | 2;
}

/** What `flanneld status` prints. */
export async function statusReport(subnetFile: string, json: boolean, now: number): Promise<Report> {
  try {
    const body = await ask(statusSocketPath(subnetFile));
    const status = JSON.parse(body) as AgentStatus;
    return {
      text: json ? body : printStatus(status, now),
      exitCode: status.ready && status.differences.length === 0 ? 0 : 1,
    };
  } catch (error) {
    const { code, message } = asNetError(error);
    const text = json ? JSON.stringify({ ready: false, reason: message }) : `${message} (${ERRORS[code].hint})`;
    return { text: `${text}\n`, exitCode: 2 };
  }
}

function ask(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => reject(noAgent(socketPath, cause));
    const call = request({ socketPath, path: '/status', timeout: TIMEOUT_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () => resolve(Buffer.concat(chunks).toString()));
    });
    call.on('error', fail);
    call.on('timeout', () => call.destroy(new Error('no answer in time')));
    call.end();
  });
}

/** The status in words. `now`: milliseconds since the epoch. */
export function printStatus(status: AgentStatus, now: number): string {
  const lines = [
    `flanneld ${status.version}, process ${status.pid}, running for ${duration(now - Date.parse(status.startedAt))}: ${status.ready ? 'ready' : 'NOT READY'}`,
    ...(status.reason === undefined ? [] : [`  ${status.reason}`]),
    ...(status.trouble === undefined || status.reason?.includes(status.trouble) ? [] : [`  ${status.trouble}`]),
    ...(status.notes ?? []).map((note) => `  ${note}`),
    ...status.families.map(
      ({ family, subnet, network, publicIp, device, deviceMtu }) =>
        `IPv${family}: subnet ${subnet ?? '(none yet)'} of ${network}, by ${publicIp} on ${device} (MTU ${deviceMtu})`,
    ),
    ...(status.backend === undefined
      ? []
      : [`backend ${status.backend}, MTU of pods ${status.mtu}, node ${status.nodeId}`]),
    ...(status.cniOnly ? ['no subnet manager and no other nodes (--cni-only)'] : peerLines(status)),
    ...extensionLines(status),
    ...(status.cni === undefined ? [] : cniLines(status.cni)),
    ...(status.graceUntil === undefined
      ? []
      : [`nothing is removed until ${status.graceUntil}: our own lease was missing from the store`]),
    ...hostLines(status.host ?? []),
    ...firewallLines(status),
    ...runLines(status, now),
    ...differenceLines(status.differences),
  ];
  return `${lines.join('\n')}\n`;
}

function peerLines({ peers }: AgentStatus): string[] {
  const counts = Map.groupBy(peers, ({ state }) => state);
  const summary = [...counts].map(([state, group]) => `${group.length} ${state}`).join(', ');
  const keys = Math.max(0, ...peers.map(({ key }) => key.length));
  const lines = peers.map(
    ({ key, publicIp, state, reason, probes = [] }) =>
      `  ${key.padEnd(keys)}  ${publicIp.join(' ')}  ${[`${state}${reason ? `: ${reason}` : ''}`, ...probes.map(probeText)].join('; ')}`,
  );
  return [`peers: ${peers.length}${peers.length > 0 ? ` (${summary})` : ''}`, ...lines];
}

/** "IPv4 reachable, 0.4 ms, 10 % lost" */
function probeText({ family, state, rttMs, loss, rounds }: ProbeStatus): string {
  const time = rttMs === undefined ? [] : [`${rttMs.toFixed(1)} ms`];
  return [
    `IPv${family} ${state}`,
    ...time,
    ...(loss > 0 ? [`${Math.round(loss * 100)} % of ${rounds} lost`] : []),
  ].join(', ');
}

function extensionLines({ extension }: AgentStatus): string[] {
  if (extension === undefined) return [];
  const { added, running, failing } = extension;
  return [`commands: ${added} peers added, ${running} running, ${failing.length} failing`];
}

function firewallLines({ firewall }: AgentStatus): string[] {
  if (firewall === undefined) return [];
  return [
    ...firewall.accepts.map(
      ({ chain, network }) => `packet filter: ${network} is accepted in ${chain} by rules of ours`,
    ),
    ...firewallRemarks(firewall),
  ];
}

function runLines({ lastRun }: AgentStatus, now: number): string[] {
  if (lastRun === undefined) return [];
  const { at, reasons, changes, durationMs, problems } = lastRun;
  const ago = duration(now - Date.parse(at));
  return [
    `last compared ${ago} ago (${reasons.join(', ')}): ${changes} changes, ${durationMs.toFixed(1)} ms`,
    ...problems.map((problem) => `  failed: ${problem}`),
  ];
}

function differenceLines(differences: readonly string[]): string[] {
  if (differences.length === 0) return ['differences: none'];
  const rest = differences.length - SHOWN_DIFFERENCES;
  return [
    `differences: ${differences.length}`,
    ...differences.slice(0, SHOWN_DIFFERENCES).map((line) => `  ${line}`),
    ...(rest > 0 ? [`  ... and ${rest} more`] : []),
  ];
}

/** "3 s", "12 min", "5 h", "8 d" */
function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}
