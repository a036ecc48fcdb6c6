// Forwarding by an operator's own commands (docs/extension.md): one before the subnet is taken, one after, one for each
// peer that comes and one for each that goes. What they do on the host is theirs: the agent holds only rules and
// forwarding. Running them is extension-keeper.ts' work. Pure.

import { matching, object, optional, parse } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';
import { familiesOf, type Lease, type PerFamily } from '../../model/lease.ts';
import type { Prefix } from '../../model/ip.ts';
import type { Backend, Commands, OpenBackend, Peer, Reach, Underlay } from './backend.ts';
import { type Command, type Environment, parseCommand } from './command-words.ts';

const MOST_CHARACTERS = 16 * 1024;

const text = matching(/^[^\0]*$/, `a text of at most ${MOST_CHARACTERS} characters`, MOST_CHARACTERS);

const SHAPE = object({
  Backend: object(
    {
      PreStartupCommand: optional(text),
      PostStartupCommand: optional(text),
      SubnetAddCommand: optional(text),
      SubnetRemoveCommand: optional(text),
    },
    { anyCase: true },
  ),
});

type Options = NonNullable<NonNullable<ReturnType<typeof SHAPE>>['Backend']>;
type Key = keyof Options;

/** @throws NetError invalid-network-config naming the command's key */
export const openExtension: OpenBackend = ({ options: given, site, stored }) => {
  const options = parse({ Backend: given }, SHAPE, 'network configuration', 'invalid-network-config')
    .Backend as Options;
  return {
    type: 'extension',
    options,
    live: [],
    publishedType: 'extension',
    // PreStartupCommand's, once it has run; while the agent runs, as the lease has it.
    backendData: stored?.backendType === 'extension' ? stored.backendData : {},
    mtu: Math.min(...familiesOf(site.underlay).map((family) => (site.underlay[family] as Underlay).mtu)),
    devices: [],
    base: () => ({}),
    reach,
    echoes: () => undefined,
    commands: commandsOf(options),
    routesAreOthers: true,
  } satisfies Backend;
};

const commandsOf = (options: Options): Commands => ({
  preStartup: commandOf(options, 'PreStartupCommand'),
  postStartup: commandOf(options, 'PostStartupCommand'),
  subnetAdd: commandOf(options, 'SubnetAddCommand'),
  subnetRemove: commandOf(options, 'SubnetRemoveCommand'),
});

/** @throws NetError invalid-network-config */
function commandOf(options: Options, key: Key): Command | undefined {
  const given = options[key];
  if (given === undefined || given.trim() === '') return undefined;
  const command = parseCommand(given);
  if (!('problem' in command)) return command;
  throw new NetError(
    'invalid-network-config',
    `network configuration: Backend.${key}: ${command.problem}, got ${JSON.stringify(given)}`,
    { subject: `Backend.${key}` },
  );
}

const reach = ({ data }: Peer): Reach =>
  data === undefined || typeof data === 'string'
    ? { state: {} }
    : { refused: `publishes a BackendData that is no text: ${JSON.stringify(data)}` };

/** What PreStartupCommand printed, as it is published: under IPv4 where the network has it, as flannel's. */
export const publishedText = (families: PerFamily<unknown>, printed: string): PerFamily<unknown> => ({
  [familiesOf(families)[0] as 4 | 6]: printed,
});

/** What a lease's BackendData gives to a command's standard input; empty when it has none. */
export function publishedBy({ backendData }: Lease): string {
  const data = backendData[4] ?? backendData[6];
  return typeof data === 'string' ? data : '';
}

/** What a command is told of the network and of a lease. */
export function environmentOf(
  networks: PerFamily<Prefix>,
  { subnet = {}, publicIp }: Partial<Pick<Lease, 'subnet'>> & Pick<Lease, 'publicIp'>,
): Environment {
  const all: Environment = {
    NETWORK: networks[4] ?? networks[6],
    SUBNET: subnet[4],
    IPV6SUBNET: subnet[6],
    PUBLIC_IP: publicIp[4],
    PUBLIC_IPV6: publicIp[6],
  } as Environment;
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}
