// When ADD has returned, the first packet to the pod is answered: nothing waits for duplicate address detection, for the
// bridge to forward, or for a neighbour that must be asked twice.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { type CniHost, compilePrograms, makeHost } from '../support/cni-host.ts';
import { pods } from '../support/cni-host-checks.ts';
import { count } from '../support/count.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const prober = join(bin, 'first-answer');
execFileSync('cc', ['-O2', '-o', prober, join(import.meta.dirname, '../../bench/first-answer.c')]);

const PODS = count(50);

/** The exit status of the prober: of ADD, or 75 when the one echo request isn't answered within a second. */
async function firstPacket({ machine, call }: CniHost, id: string, config: object): Promise<number> {
  const { environment, input } = call({ command: 'ADD', id, config: { ...config } });
  const { code } = await machine.run(prober, ['1', '1000', join(bin, 'flannel')], { env: environment, input });
  return code;
}

for (const mode of ['bridge', 'routed'] as const) {
  for (const subnet of ['10.77.0.0/16', 'fd00:77::/64']) {
    t.test(`mode ${mode}, ${subnet}: the first packet to ${PODS} pods`, async (t) => {
      const host = await makeHost(t, bin);
      await host.machine.must('sh', [
        '-ec',
        'ip link add up0 type veth peer name up1; ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8::1/64 dev up0 nodad; ip link set up0 up',
      ]);
      await host.startAgent();
      await host.addPods(pods(PODS));
      const config = { mode, isDefaultGateway: true, ipam: { ranges: [[{ subnet }]] } };
      const missed: string[] = [];
      for (const id of pods(PODS)) if ((await firstPacket(host, id, config)) !== 0) missed.push(id);
      t.strictSame(missed, []);
    });
  }
}
