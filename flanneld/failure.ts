// What a person reads of a command that could not be carried out, and its exit code. Pure.

import { asNetError, describe, ERRORS } from '../model/errors.ts';
import { COMMAND_WORDS } from './config.ts';

/** Of these, exit code 1 is an answer: something differs, a flow is denied. */
const ANSWERING = ['status', 'policy'];

export interface Failure {
  /** One line, which ends with what to do. */
  readonly text: string;
  readonly exitCode: 1 | 2;
}

/** @param argv the command line, without node and script */
export function failureOf(error: unknown, argv: readonly string[]): Failure {
  const command = COMMAND_WORDS.find((word) => word === argv[0]);
  const { code } = asNetError(error);
  const hint = code === 'invalid-flag' && command !== undefined ? `see flanneld ${command} --help` : ERRORS[code].hint;
  return {
    text: `flanneld: ${describe(error)} (${hint})\n`,
    exitCode: command !== undefined && ANSWERING.includes(command) ? 2 : 1,
  };
}
