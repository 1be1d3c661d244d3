import { stringify } from 'yaml';
import { Fault } from '../runtime/fault.ts';
import { createLogger, type Logger } from '../runtime/log.ts';
import { textFlag, type Verb } from './verb.ts';

/** What a process's main.ts offers. */
export interface Process<Config extends { readonly log: { readonly level: string } }> {
  /** @throws Fault CONFIG_INVALID naming file, line and field */
  load(file: string): Promise<Config>;
  /** Resolves after a graceful stop. */
  run(
    config: Config,
    options: { signal: AbortSignal; log: Logger; configuredLevel: () => string },
  ): Promise<void>;
}

/**
 * `writ server|agent|gateway run`. The process's code is imported when the verb runs, so that no
 * process loads another's.
 */
export function runVerb<Config extends { readonly log: { readonly level: string } }>(
  name: 'server' | 'agent' | 'gateway',
  summary: string,
  load: () => Promise<Process<Config>>,
): Verb {
  return {
    path: [name, 'run'],
    positionals: [],
    summary,
    options: {
      config: { type: 'string' },
      'check-config': { type: 'boolean', default: false },
      'until-stdin-closes': { type: 'boolean', default: false },
    },
    async run(flags, io) {
      const file = textFlag(flags, 'config');
      if (file === undefined) throw new Fault('USAGE', `${name} run: --config FILE is missing`);
      const main = await load();
      const config = await main.load(file);
      if (flags['check-config'] === true) {
        io.out(stringify(config).trimEnd());
        return;
      }
      const stop = new AbortController();
      const abort = () => stop.abort(io.signal.reason ?? new Fault('UNAVAILABLE', 'stopped'));
      io.signal.addEventListener('abort', abort);
      if (flags['until-stdin-closes'] === true) {
        process.stdin.resume().once('end', abort).once('error', abort);
      }
      const log = createLogger({ process: name, level: config.log.level });
      const level = new ReloadedLevel(config, () => main.load(file), log);
      process.on('SIGHUP', level.reload);
      try {
        const configuredLevel = () => level.configured;
        await main.run(config, { signal: stop.signal, log, configuredLevel });
      } finally {
        process.removeListener('SIGHUP', level.reload);
        process.stdin.destroy();
      }
    },
  };
}

/** The level of the log follows the configuration file at each SIGHUP; nothing else of it does. */
class ReloadedLevel<Config extends { readonly log: { readonly level: string } }> {
  #config: Config;
  readonly #load: () => Promise<Config>;
  readonly #log: Logger;

  constructor(config: Config, load: () => Promise<Config>, log: Logger) {
    this.#config = config;
    this.#load = load;
    this.#log = log;
  }

  /** What the file said when it was last read. */
  get configured(): string {
    return this.#config.log.level;
  }

  readonly reload = (): void => {
    this.#reload().catch((error: unknown) => {
      this.#log.error({ err: error }, 'configuration not read again: it stays as it was');
    });
  };

  async #reload(): Promise<void> {
    const next = await this.#load();
    const rest = (config: Config) => stringify({ ...config, log: undefined });
    if (rest(next) !== rest(this.#config))
      this.#log.warn('the configuration differs in more than log: that needs a restart');
    this.#config = { ...this.#config, log: next.log };
    this.#log.level = next.log.level;
    this.#log.info({ level: next.log.level }, 'log level read again');
  }
}
