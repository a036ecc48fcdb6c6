// Run inside a node's namespace: attaches pods one after another in this one process, then says which of its threads
// are in another network namespace than it was started in.

import { readlinkSync } from 'node:fs';
import { parseEnvironment, parseRequest } from '../../cni-plugin/protocol.ts';
import { removeOwn } from '../../cni-plugin/attach.ts';
import { type Dependencies, perform } from '../../cni-plugin/verbs.ts';
import { straysFrom } from '../../kernel/netns.ts';
import { openKernel } from '../../kernel/open.ts';

const [config = '', pods = '', rounds = ''] = process.argv.slice(2);
const home = readlinkSync('/proc/self/ns/net');
const kernel = openKernel();
const dependencies: Dependencies = {
  kernel,
  bootId: 'test',
  now: Date.now,
  lockTimeoutMs: 1000,
  execute: () => Promise.reject(new Error('no plugin is executed')),
  removeLink: async (link) => removeOwn(kernel, link),
};
const strays = new Set<string>();
const failures: string[] = [];

for (let n = 0; n < Number(rounds); n++) {
  const netns = pods.split(',')[n % pods.split(',').length] as string;
  for (const command of ['ADD', 'DEL']) {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `pod${n}`,
      CNI_NETNS: netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/x',
    };
    const { status, output } = await perform('flannel', parseRequest(parseEnvironment(env), config), dependencies);
    if (status !== 0) failures.push(`${command} ${n}: ${output}`);
    // Work for libuv's threads, in the middle of it all.
    if (n % 10 === 0) await import('node:fs/promises').then(({ stat }) => stat('/'));
    for (const thread of straysFrom(home)) strays.add(thread);
  }
}
process.stdout.write(JSON.stringify({ strays: [...strays], failures: failures.slice(0, 3) }));
