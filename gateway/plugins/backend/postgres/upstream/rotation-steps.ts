/**
 * What one step of a rotation does in the backend. Each can be done again from its beginning, whatever of
 * it was done before a crash. Source: server/secrets/rotations.ts for their order.
 */
import pg from 'pg';
import {
  type RotationLogin,
  RotationStep,
  type TakeRotationResponse,
} from '../../../../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { scramVerifier, USUAL_ITERATIONS } from '../../../../../runtime/scram-verifier.ts';
import type { Login, LoginSource } from '../../../../credentials/login-source.ts';
import { ControlConnections, type ControlRow } from './control.ts';
import { isLoginRefused } from './login.ts';
import { PrimaryControl } from './primary.ts';

/** How a step went: it is done, it is to be tried again, or it cannot be done and this is why. */
export type StepResult = 'done' | { readonly wait: string } | { readonly failure: string };

/** Statements as one login, on the backend's primary. */
export interface RotationControl extends AsyncDisposable {
  query(text: string, values?: readonly unknown[]): Promise<readonly ControlRow[]>;
  /** Where that is. */
  locate(): Promise<PostgresBackend>;
}

export interface RotationAccess {
  /** As the login in use. */
  control(backend: PostgresBackend, login: Login): RotationControl;
  /** Logs in as the other one, at that very host, and calls what a gateway calls. */
  prove(address: PostgresBackend, login: Login): Promise<void>;
}

export type TakenStep = Pick<TakeRotationResponse, 'current' | 'twin' | 'force'>;

const UNDEFINED_FUNCTION = '42883';
const INSUFFICIENT_PRIVILEGE = '42501';
const RUN_SETUP = 'the backend has no functions for it: run writ backend setup again';

export async function doStep(
  step: RotationStep,
  backend: PostgresBackend,
  { taken, access }: { readonly taken: TakenStep; readonly access: RotationAccess },
): Promise<StepResult> {
  const { current, twin, force } = taken;
  if (current === undefined || twin === undefined) return { failure: 'the server named no login' };
  await using control = access.control(backend, loginOf(current));
  try {
    switch (step) {
      case RotationStep.PROVE:
        return await prove(control, loginOf(twin), access);
      case RotationStep.RETIRE:
        return (await retire(control, force)) ?? (await disprove(control, loginOf(twin), access));
      case RotationStep.UNDO:
        return (await retire(control, true)) ?? 'done';
      default:
        return { failure: 'this gateway does not know the step' };
    }
  } catch (error) {
    return explained(error);
  }
}

async function prove(
  control: RotationControl,
  twin: Login,
  access: RotationAccess,
): Promise<StepResult> {
  const verifier = scramVerifier(twin.password ?? '', USUAL_ITERATIONS);
  await control.query('SELECT writ.set_twin_password($1)', [verifier]);
  try {
    await access.prove(await control.locate(), twin);
    return 'done';
  } catch (error) {
    if (isRefused(error)) return { failure: 'the backend refuses the new login' };
    throw error;
  }
}

/** Undefined once nobody is logged in as the other any more: a login under way may come after the first 0. */
async function retire(control: RotationControl, force: boolean): Promise<StepResult | undefined> {
  for (let calls = 0; calls < 2; calls += 1) {
    const [row] = await control.query('SELECT writ.retire_twin($1) AS live', [force]);
    if (Number(row?.live) !== 0) return { wait: 'connections of the former login are still there' };
  }
  return undefined;
}

/** The former password opens nothing: shown by a login. */
async function disprove(
  control: RotationControl,
  former: Login,
  access: RotationAccess,
): Promise<StepResult> {
  if (former.password === '') return 'done';
  try {
    await access.prove(await control.locate(), former);
  } catch (error) {
    if (isRefused(error)) return 'done';
    throw error;
  }
  return { failure: 'the former password still logs in' };
}

/** The server's own word is final; what may only be out of reach is tried again. */
function explained(error: unknown): StepResult {
  if (isRefused(error)) return { failure: 'the backend refuses the login in use' };
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (!(cause instanceof pg.DatabaseError) || cause.severity !== 'ERROR') continue;
    const { code = '' } = cause;
    if (code === UNDEFINED_FUNCTION || code === INSUFFICIENT_PRIVILEGE)
      return { failure: RUN_SETUP };
    return { failure: `the backend refuses it with SQLSTATE ${code}` };
  }
  return { wait: 'the backend cannot be reached' };
}

function isRefused(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    if (isLoginRefused(cause)) return true;
  return false;
}

function loginOf({ user, password }: RotationLogin): Login {
  return { user, password };
}

/** Over connections of its own, which end with the step. */
export const rotationAccess: RotationAccess = {
  control: (backend, login) => new PrimaryControl(backend, fixedLogin(login)),
  async prove(address, login) {
    await using control = new ControlConnections(address, fixedLogin(login));
    await control.query('SELECT count(*) FROM writ.list_sessions()');
  },
};

function fixedLogin(login: Login): LoginSource {
  return {
    current: async () => login,
    accepted: () => undefined,
    rejected: () => undefined,
    isOver: () => false,
    [Symbol.asyncDispose]: async () => undefined,
  };
}
