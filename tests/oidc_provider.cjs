// An OpenID Connect provider by oidc-provider, whose people are who they say.
//
// Arguments: one JSON object {port, client, secret, back: [redirect addresses], accounts: {name: claims}, whole}; with
// `whole` the ID token says all claims, else only userinfo does. It prints one line "ready", and answers each line on
// its standard input by one line "ok": {account: name, claims} makes or changes somebody; {twist: null or {claims, alg,
// key}} has the next ID tokens say other claims, signed by RS256, HS256 (with the client's secret) or none, or by a key
// of somebody else.
"use strict";
const crypto = require("crypto");
const http = require("http");
const readline = require("readline");

console.log = console.warn = console.info = console.error; // standard output is for answers alone
const answer = (line) => process.stdout.write(`${line}\n`);
const options = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${options.port}`;
const accounts = options.accounts;
const { publicKey, privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
const kid = crypto.createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("hex");
let twist = null;

const encode = (said) => Buffer.from(JSON.stringify(said)).toString("base64url");
const decode = (part) => JSON.parse(Buffer.from(part, "base64url"));

function twisted(token) {
  const { claims = {}, alg = "RS256", key } = twist;
  const [head, body] = token.split(".").slice(0, 2).map(decode);
  const signed = `${encode({ ...head, alg })}.${encode({ ...body, ...claims })}`;
  const own = key === "other" ? crypto.generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey : privateKey;
  const signatures = {
    RS256: () => crypto.sign("sha256", signed, own),
    HS256: () => crypto.createHmac("sha256", options.secret).update(signed).digest(),
    none: () => Buffer.alloc(0),
  };
  return `${signed}.${signatures[alg]().toString("base64url")}`;
}

async function provide() {
  const { Provider } = await import(require.resolve("oidc-provider"));
  const provider = new Provider(issuer, {
    clients: [{ client_id: options.client, client_secret: options.secret, redirect_uris: options.back, post_logout_redirect_uris: options.back.map((uri) => new URL("/sign-in", uri).href) }],
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid, alg: "RS256", use: "sig" }] },
    cookies: { keys: ["a key of the tests"] },
    claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
    conformIdTokenClaims: !options.whole,
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
    findAccount: (_, id) => accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
    loadExistingGrant: async ({ oidc }) => {
      const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope("openid profile groups");
      await grant.save();
      return grant;
    },
  });
  provider.use(async (context, next) => {
    await next();
    if (twist && context.body && context.body.id_token) context.body.id_token = twisted(context.body.id_token);
  });
  const serve = provider.callback();
  const server = http.createServer(async (request, response) => {
    if (!request.url.startsWith("/interaction/")) return serve(request, response);
    if (request.method === "GET") {
      response.setHeader("Content-Type", "text/html");
      return response.end('<title>Company</title><form method="post"><label>Account <input name="account"></label><button>Continue</button></form>');
    }
    let body = "";
    for await (const part of request) body += part;
    const account = new URLSearchParams(body).get("account");
    const result = accounts[account] ? { login: { accountId: account } } : { error: "access_denied" };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  });
  server.listen(options.port, "127.0.0.1", () => answer("ready"));
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const asked = JSON.parse(line);
    if (asked.account) accounts[asked.account] = asked.claims;
    if ("twist" in asked) twist = asked.twist;
    answer("ok");
  }).on("close", () => process.exit(0));
}

provide().catch((error) => {
  console.error(error);
  process.exit(1);
});
