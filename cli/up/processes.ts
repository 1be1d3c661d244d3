import { rename } from 'node:fs/promises';
import type { VerbIo } from '../verb.ts';
import { writeAgentConfig, writeGatewayConfig, writeServerConfig } from './configs.ts';
import { healthUrl, type Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';
import { Supervised } from './supervised.ts';
import { thisProgram } from './this-program.ts';
import { upgradeStore } from './upgrade-store.ts';

export interface ProcessOptions {
  readonly plan: Plan;
  readonly state: StateDir;
  readonly io: VerbIo;
  say(line: string): void;
  /** Done before each restart. */
  prepare?(): Promise<void>;
  /** Told after each restart. */
  started?(): Promise<void>;
}

export async function startServer(options: ProcessOptions): Promise<Supervised> {
  const { plan, state } = options;
  const config = await writeServerConfig(plan, state);
  const what = { name: 'server', config, port: plan.ports.serverHealth } as const;
  try {
    return await start(options, what);
  } catch (error) {
    if (state.fresh || !(await upgradeStore(options, config))) throw error;
    return await start(options, what);
  }
}

export async function startAgent(options: ProcessOptions): Promise<Supervised> {
  const { plan, state } = options;
  const config = await writeAgentConfig(plan, state);
  return await start(options, { name: 'agent', config, port: plan.ports.agentHealth });
}

export async function startGateway(
  options: ProcessOptions & { readonly program: string },
): Promise<Supervised> {
  const { plan, state, program } = options;
  const config = await writeGatewayConfig(plan, state);
  const port = plan.ports.gatewayHealth;
  return await start(options, { name: 'gateway', config, port, program });
}

interface What {
  readonly name: 'server' | 'agent' | 'gateway';
  readonly config: string;
  readonly port: number;
  readonly program?: string;
}

async function start(options: ProcessOptions, what: What): Promise<Supervised> {
  const { state, io, say, prepare, started } = options;
  const { name, config, port, program = process.execPath } = what;
  const logFile = state.in(name, `${name}.log`);
  await setLogAside(logFile);
  return await Supervised.start(
    {
      child: {
        name,
        file: program,
        args: [...thisProgram(), name, 'run', '--config', config, '--until-stdin-closes'],
        logFile,
      },
      health: healthUrl(port),
      say,
      ...(prepare === undefined ? {} : { prepare }),
      ...(started === undefined ? {} : { started }),
    },
    io.signal,
  );
}

/** The log of one run beside that of the run before, and no older one. */
async function setLogAside(file: string): Promise<void> {
  await rename(file, `${file}.old`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}
