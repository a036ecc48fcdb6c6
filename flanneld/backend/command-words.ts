// A command as an operator writes it, split into words without a shell: quotes and backslashes as in sh, and the variables
// that the agent gives. Whatever else a shell would do is refused by name, so that nothing is quietly taken literally. Pure.

/** What a command may be told. */
const VARIABLES = ['NETWORK', 'SUBNET', 'IPV6SUBNET', 'PUBLIC_IP', 'PUBLIC_IPV6'] as const;
export type Variable = (typeof VARIABLES)[number];
export type Environment = Readonly<Partial<Record<Variable, string>>>;

type Part = { readonly text: string } | { readonly variable: Variable };

interface Word {
  readonly parts: readonly Part[];
  /** Then it is a word even when nothing is in it. */
  readonly quoted: boolean;
}

/** At least one word. */
export type Command = readonly Word[];

const BLANK = /[ \t]/y;
const PLAIN = /[^ \t\n\r\\'"$;|&<>()`]+/y;
const SINGLE = /'([^']*)'/y;
const REFERENCE = /\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/y;
const ESCAPED = /\\([^\n])/y;
const DOUBLE_TEXT = /[^"\\$`]+/y;
const DOUBLE_ESCAPED = /\\(["\\$`])/y;

/** The command, or what is wrong with the text. */
export function parseCommand(text: string): Command | { readonly problem: string } {
  const words: Word[] = [];
  let at = 0;
  let parts: Part[] = [];
  let quoted = false;
  let problem: string | undefined;
  const take = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    const match = pattern.exec(text) ?? undefined;
    at += match?.[0].length ?? 0;
    return match;
  };
  const add = (part: string | undefined): boolean => part !== undefined && parts.push({ text: part }) > 0;
  const reference = (): boolean => {
    const match = take(REFERENCE);
    if (match === undefined) return false;
    const name = match[1] ?? match[2];
    const variable = VARIABLES.find((known) => known === name);
    if (variable !== undefined) return parts.push({ variable }) > 0;
    problem = `there is no variable ${match[0]}, only ${VARIABLES.join(', ')}`;
    return true;
  };
  const double = (): boolean => {
    if (text[at] !== '"') return false;
    at++;
    quoted = true;
    while (problem === undefined && text[at] !== '"') {
      if (add(take(DOUBLE_TEXT)?.[0]) || add(take(DOUBLE_ESCAPED)?.[1]) || reference()) continue;
      if (text[at] === '\\') add(text[at++]);
      else problem = at >= text.length ? 'a double quote is not closed' : needsShell(text, at);
    }
    at++;
    return true;
  };
  const single = (): boolean => {
    const match = take(SINGLE);
    quoted ||= match !== undefined;
    return add(match?.[1]);
  };
  const end = () => {
    if (parts.length > 0 || quoted) words.push({ parts, quoted });
    parts = [];
    quoted = false;
  };
  while (problem === undefined && at < text.length) {
    if (take(BLANK)) end();
    else if (!(add(take(PLAIN)?.[0]) || add(take(ESCAPED)?.[1]) || single() || double() || reference()))
      problem = text[at] === "'" ? 'a single quote is not closed' : needsShell(text, at);
  }
  end();
  if (problem !== undefined) return { problem };
  return words.length > 0 ? words : { problem: 'it is empty' };
}

const needsShell = (text: string, at: number): string =>
  `${JSON.stringify(text[at])} at position ${at + 1} needs a shell, which is run only where the command says so: sh -c '...'`;

/**
 * The words to execute. A value stays in its word whatever is in it; a word of nothing but variables without a value is
 * left out, as sh does.
 */
export const expand = (command: Command, environment: Environment): string[] =>
  command.flatMap(({ parts, quoted }) => {
    const word = parts.map((part) => ('text' in part ? part.text : (environment[part.variable] ?? ''))).join('');
    return word === '' && !quoted ? [] : [word];
  });
