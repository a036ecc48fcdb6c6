// Whether traffic flows: servers in pods, a neighbour outside, and a client wherever one is needed.

import { once } from 'node:events';
import { join } from 'node:path';
import type { Stage } from '../stage.ts';

/** The network between the host and its neighbour. */
export const HOST = { v4: '192.0.2.1', v6: '2001:db8:ffff::1' };
export const NEIGHBOUR = { v4: '192.0.2.2', v6: '2001:db8:ffff::2' };
/** The neighbour's namespace. It knows no way to any pod. */
export const OUTSIDE = 'outside';

const ECHO = join(import.meta.dirname, '../echo.ts');
/** Seconds until a client gives up that should get an answer, and one that shouldn't: all is one hop away. */
const [PATIENCE, DOUBT] = ['15', '1.5'];

export async function neighbour(stage: Stage): Promise<void> {
  await stage.pod(OUTSIDE);
  await stage.sh(`
    ip link add out0 type veth peer name eth0 netns ${OUTSIDE}
    echo 0 > /proc/sys/net/ipv6/conf/out0/accept_dad
    nsenter --net=/run/netns/${OUTSIDE} sh -c 'echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad'
    ip addr add ${HOST.v4}/24 dev out0
    ip addr add ${HOST.v6}/64 dev out0 nodad
    ip link set out0 up
    ip -n ${OUTSIDE} addr add ${NEIGHBOUR.v4}/24 dev eth0
    ip -n ${OUTSIDE} addr add ${NEIGHBOUR.v6}/64 dev eth0 nodad
    ip -n ${OUTSIDE} link set eth0 up`);
}

/** Starts a server in the pod, for TCP and UDP on each port; it ends with the stage. */
export async function serve(stage: Stage, pod: string, ...ports: readonly number[]): Promise<void> {
  const words = [ECHO, pod, ...ports.map(String)];
  const server = stage.machine.start('nsenter', [`--net=/run/netns/${pod}`, process.execPath, ...words]);
  await once(server.stdout as NodeJS.ReadableStream, 'data');
}

export interface Question {
  /** Pod; the host itself when absent. */
  readonly from?: string;
  readonly protocol?: 'tcp' | 'udp';
  readonly to: string;
  readonly port: number;
}

async function answer(stage: Stage, seconds: string, question: Question): Promise<string | undefined> {
  const { from, protocol = 'tcp', to, port } = question;
  const inside = from === undefined ? [] : ['nsenter', `--net=/run/netns/${from}`];
  const script = `exec 3<>/dev/${protocol}/${to}/${port} && echo >&3 && head -n 1 <&3`;
  const [command, ...args] = [...inside, 'timeout', seconds, 'bash', '-c', script];
  const { stdout } = await stage.machine.run(command as string, args);
  return stdout.trim() === '' ? undefined : stdout.trim();
}

/** What the server says: its name and the address it saw. Undefined when there is no answer. */
export const ask = (stage: Stage, question: Question): Promise<string | undefined> => answer(stage, PATIENCE, question);

/** The same where no answer should come. */
export const askInVain = (stage: Stage, question: Question): Promise<string | undefined> =>
  answer(stage, DOUBT, question);

const ping = async ({ machine }: Stage, from: string, to: string, seconds: string): Promise<boolean> => {
  const words = ['ping', '-n', '-q', '-c', '1', '-i', '0.2', '-w', seconds, to];
  return (await machine.run('ip', ['netns', 'exec', from, ...words])).code === 0;
};

/** An answer comes, if only after the reference's IPv6 gateway has done duplicate address detection. */
export const reaches = (stage: Stage, from: string, to: string): Promise<boolean> => ping(stage, from, to, '4');

/** No answer comes. */
export const misses = async (stage: Stage, from: string, to: string): Promise<boolean> =>
  !(await ping(stage, from, to, '1'));
