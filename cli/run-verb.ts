import { stringify } from 'yaml';
import { Fault } from '../runtime/fault.ts';
import { createLogger, type Logger } from '../runtime/log.ts';
import { textFlag, type Verb } from './verb.ts';

/** What a process's main.ts offers. */
export interface Process<Config extends { readonly log: { readonly level: string } }> {
  /** @throws Fault CONFIG_INVALID naming file, line and field */
  load(file: string): Promise<Config>;
  /** Resolves after a graceful stop. */
  run(config: Config, options: { signal: AbortSignal; log: Logger }): Promise<void>;
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
      try {
        await main.run(config, { signal: stop.signal, log });
      } finally {
        process.stdin.destroy();
      }
    },
  };
}
