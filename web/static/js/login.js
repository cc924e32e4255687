// Logs in with the token of the printed link, which is in the fragment so that it is in no log, or with what is typed.
// Alone on its page: it loads without a login and imports nothing.

const TEXT = {
  "en": {
    token: "Token", password: "Password", enter: "Log in", hint: "The link printed at start logs in by itself.",
    wrong: "That is not the right secret.", wait: "Too many wrong tries. Wait a minute.", away: "The desk cannot be reached.",
  },
  "zh-TW": {
    token: "權杖", password: "密碼", enter: "登入", hint: "啟動時印出的連結會自動登入。",
    wrong: "權杖或密碼不正確。", wait: "錯誤次數過多，請稍候一分鐘。", away: "無法連線到交易台。",
  },
  "zh-CN": {
    token: "令牌", password: "密码", enter: "登录", hint: "启动时打印的链接会自动登录。",
    wrong: "令牌或密码不正确。", wait: "错误次数过多，请等待一分钟。", away: "无法连接到交易台。",
  },
};

const form = document.getElementById("login");
const secret = document.getElementById("secret");
const said = document.getElementById("said");
const text = TEXT[chosenLanguage()];

/** What the page behind was set to, if it ever was. */
function kept(key) {
  try { return localStorage.getItem(`makerdeck.${key}`); } catch { return null; }
}

function chosenLanguage() {
  const wanted = kept("lang");
  return wanted in TEXT ? wanted : document.documentElement.lang in TEXT ? document.documentElement.lang : "en";
}

async function logIn(body) {
  said.textContent = "";
  form.querySelector("button").disabled = true;
  try {
    const response = await fetch("/api/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      credentials: "same-origin",
      body: JSON.stringify(body),
    });
    if (response.ok) return enter();
    said.textContent = response.status === 429 ? text.wait : text.wrong;
  } catch {
    said.textContent = text.away;
  }
  form.querySelector("button").disabled = false;
  secret.focus();
}

function enter() {
  location.replace("/"); // replaces this entry: going back does not come here again
}

function begin() {
  document.documentElement.lang = chosenLanguage();
  document.documentElement.dataset.theme = kept("theme") === "light" ? "light" : "dark";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text[element.dataset.text];
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname); // out of the address bar and the history at once
    return logIn({ token });
  }
  if (form.dataset.in === "yes") return enter();
  secret.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // a token is good wherever a password is asked for: it is tried first only when it looks like one
  const value = secret.value.trim();
  const kind = form.dataset.kind === "password" && value.length < 40 ? "password" : "token";
  logIn({ [kind]: value });
});

begin();
