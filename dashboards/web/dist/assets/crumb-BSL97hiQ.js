import{z as a,y as l,r as e}from"./runtime-core.esm-bundler-B0WBhVfj.js";const u=e(null);function r(n){a(()=>u.value=n()??null),l(()=>u.value=null)}export{u as c,r as u};
