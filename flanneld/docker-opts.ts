// `flanneld docker-opts`: writes the options with which a Docker daemon puts its containers into this node's subnet. What
// flannel's mk-docker-opts.sh does, but for one thing: without a subnet file it fails, since a Docker that starts with no
// options takes addresses of its own.

import { readRegular, writeWhole } from '../kernel/files.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { NetError } from '../model/errors.ts';
import { networkOf, type Prefix } from '../model/ip.ts';
import type { Environment } from './arguments.ts';
import { type DockerOptions, formatDockerFile, readSubnetValues } from './docker-options.ts';

/** @throws NetError not-ready without a subnet file; decoding; io; foreign-object when the subnet is routed elsewhere */
export function writeDockerOptions(options: DockerOptions, env: Environment, kernel: () => Kernel): void {
  const text = readRegular(options.subnetFile, { followLink: true });
  if (text === undefined) {
    throw new NetError('not-ready', `${options.subnetFile}: there is no such file`, { subject: options.subnetFile });
  }
  const values = readSubnetValues(text);
  writeWhole(options.dockerFile, formatDockerFile(values, options, env), { mode: 0o644 });
  if (values.subnet !== undefined) refuseRouted(kernel(), networkOf(values.subnet));
}

/** Docker's bridge would be deaf: packets for its containers leave by a gateway. */
function refuseRouted(kernel: Kernel, subnet: Prefix): void {
  const { routes } = kernel.read(kernel.host, { routes: { families: [4] } });
  const route = routes.find(({ destination, via }) => destination === subnet && via !== undefined);
  if (route === undefined) return;
  throw new NetError('foreign-object', `Your routing table already contains the subnet: ${subnet} via ${route.via}`, {
    subject: subnet,
  });
}
