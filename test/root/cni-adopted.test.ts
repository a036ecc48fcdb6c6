// DEL of pods that flannel and the reference plugins attached: of what these left nothing stays, and of others' everything.
// flannel's own plugin executes bridge with a configuration that it keeps; here the test does. The real one:
// test/kubernetes/migration.test.ts.

import t from 'tap';
import { executeCni } from '../../examples/cluster/pod.ts';
import { startMachine } from '../../examples/cluster/machine.ts';
import { DEBIAN_BIN } from '../cni/target.ts';

const DELEGATE = {
  cniVersion: '0.3.1',
  name: 'cbr0',
  type: 'bridge',
  bridge: 'cni0',
  isGateway: true,
  isDefaultGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.244.1.0/24' }], [{ subnet: 'fd00:244:1::/64' }]] },
};

t.test('chains, addresses and the file of one of two pods', async (t) => {
  const machine = await startMachine('adopted');
  t.teardown(() => machine.stop());
  await machine.must('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
  await machine.must('mkdir', ['-p', '/var/lib/cni/flannel']);
  const execute = async (verb: string, name: string, config: Record<string, unknown>, cniBin?: string) => {
    const { code, stdout, stderr } = await executeCni(machine, verb, { name, config, cniBin });
    t.equal(code, 0, `${verb} ${String(config.type)} ${name}: ${stdout}${stderr}`);
    return stdout;
  };
  for (const [name, hostPort] of [
    ['one', 8081],
    ['two', 8082],
  ] as const) {
    await machine.must('ip', ['netns', 'add', name]);
    await machine.must('sh', ['-ec', `cat > /var/lib/cni/flannel/${name}`], { input: JSON.stringify(DELEGATE) });
    const prevResult = JSON.parse(await execute('ADD', name, DELEGATE, DEBIAN_BIN));
    const portMappings = [{ hostPort, containerPort: 80, protocol: 'tcp' }];
    const ports = { cniVersion: '0.3.1', name: 'cbr0', type: 'portmap', prevResult, runtimeConfig: { portMappings } };
    await execute('ADD', name, ports, DEBIAN_BIN);
  }
  const rules = async () =>
    (await machine.must('sh', ['-ec', 'iptables-save -t nat; ip6tables-save -t nat']))
      .split('\n')
      .filter((line) => /^[:-]/.test(line))
      .map((line) => line.replace(/ \[.*/, ''));
  const files = async () => (await machine.must('find', ['/var/lib/cni', '-type', 'f'])).split('\n').sort();
  const isOf = (name: string, port: number) => (line: string) =>
    line.includes(`"${name}\\"`) || line.includes(`${port}`);
  const before = await rules();
  t.ok(before.some(isOf('one', 8081)) && before.some(isOf('two', 8082)), 'there is something to take away');

  const flannel = { cniVersion: '1.0.0', name: 'cbr0', type: 'flannel', delegate: {} };
  await execute('DEL', 'one', flannel);
  const after = await rules();
  t.notOk(after.some(isOf('one', 8081)), 'no rule of the pod');
  const names = (lines: readonly string[]) => lines.filter((line) => line.startsWith(':CNI-'));
  t.equal(names(after).length, names(before).length - 4, 'nor a chain, in either family');
  t.strictSame(
    after.filter(isOf('two', 8082)),
    before.filter(isOf('two', 8082)),
    'those of the other pod are as they were',
  );
  t.notOk(
    (await files()).some((path) => /flannel\/one$|\.2$|::2$/.test(path)),
    'neither file nor address',
  );
  t.ok((await files()).some((path) => path.endsWith('flannel/two')));
  t.notMatch(await machine.must('ip', ['netns', 'exec', 'one', 'ip', 'link']), /eth0/);
  await execute('DEL', 'one', flannel);
  await execute('DEL', 'two', flannel);
  t.notOk((await rules()).some((line) => /^:CNI-(DN-)?[\da-f]/.test(line)));
});
