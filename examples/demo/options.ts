// The demonstration's command line.

import { parseArgs } from 'node:util';

const BACKENDS = ['vxlan', 'host-gw'] as const;
export type Backend = (typeof BACKENDS)[number];

export interface DemoOptions {
  readonly nodes: number;
  readonly pods: number;
  /** Shown in this order. */
  readonly backends: readonly Backend[];
  readonly mode: 'show' | 'keep' | 'down' | 'help';
}

export const HELP = `Builds a pod network of several nodes on this machine, shows it carrying traffic, and takes it away again.

usage: npm run demo [-- OPTIONS]
       node examples/demo/main.ts [OPTIONS]

  --nodes N         nodes, 2 to 9 (3)
  --pods N          pods on each node, 1 to 9 (2)
  --backend NAME    vxlan or host-gw: show only that one (both, one after the other)
  --keep            leave the cluster up and print how to look around
  --down            remove a cluster that --keep left
  --help            this text

Needs root. Exit code 0 only if every check held.
`;

/** @throws Error, one line, for what it doesn't know */
export function parseOptions(argv: readonly string[]): DemoOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      nodes: { type: 'string', default: '3' },
      pods: { type: 'string', default: '2' },
      backend: { type: 'string' },
      keep: { type: 'boolean', default: false },
      down: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const backend = BACKENDS.find((name) => name === values.backend);
  if (values.backend !== undefined && backend === undefined)
    throw new Error(`--backend ${values.backend}: expected ${BACKENDS.join(' or ')}`);
  return {
    nodes: within('--nodes', values.nodes, 2, 9),
    pods: within('--pods', values.pods, 1, 9),
    backends: backend === undefined ? BACKENDS : [backend],
    mode: values.help ? 'help' : values.down ? 'down' : values.keep ? 'keep' : 'show',
  };
}

function within(flag: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new Error(`${flag} ${text}: expected a whole number from ${min} to ${max}`);
}
