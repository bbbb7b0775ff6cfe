import{y as a,z as l,r as e}from"./runtime-core.esm-bundler-BV15A_AM.js";const u=e(null);function r(n){a(()=>u.value=n()??null),l(()=>u.value=null)}export{u as c,r as u};
