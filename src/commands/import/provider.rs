//! The providers of LiteLLM, and how Ringway reaches them: one row each. Pure. A provider is
//! supported if it has OpenAI's or Anthropic's API, at whatever path.

/// How Ringway reaches a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// OpenAI's API: the default URL with the path that is its `/v1`, and the variable from which LiteLLM takes the key.
    OpenAi { url: Option<&'static str>, key: Option<&'static str> },
    /// As `OpenAi`, below `/openai` of the resource's URL, with the key in `api-key`.
    Azure,
    /// Not supported, and why.
    No(&'static str),
}

const OWN_API: &str = "has an API of its own, which is not supported yet; left out";
const SIGNED: &str = "signs its requests, which is not supported yet; left out";
const VERSIONED: &str = "has a version in each query, which is not supported yet; left out";

const fn at(url: &'static str, key: &'static str) -> Reach {
    Reach::OpenAi { url: Some(url), key: Some(key) }
}

/// Servers that users run themselves have no default URL.
const OWN_SERVER: Reach = Reach::OpenAi { url: None, key: None };

/// By LiteLLM's model prefix; URLs and variables as in LiteLLM's documentation of each provider.
const PROVIDERS: &[(&str, Reach)] = &[
    ("openai", at("https://api.openai.com/v1", "OPENAI_API_KEY")),
    ("text-completion-openai", at("https://api.openai.com/v1", "OPENAI_API_KEY")),
    ("azure", Reach::Azure),
    ("azure_text", Reach::Azure),
    // By its own API: requests are translated.
    ("anthropic", at("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY")),
    ("groq", at("https://api.groq.com/openai/v1", "GROQ_API_KEY")),
    ("mistral", at("https://api.mistral.ai/v1", "MISTRAL_API_KEY")),
    ("deepseek", at("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY")),
    ("together_ai", at("https://api.together.xyz/v1", "TOGETHERAI_API_KEY")),
    ("fireworks_ai", at("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY")),
    ("openrouter", at("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY")),
    ("xai", at("https://api.x.ai/v1", "XAI_API_KEY")),
    ("cerebras", at("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY")),
    ("nvidia_nim", at("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY")),
    ("sambanova", at("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY")),
    ("ollama", Reach::OpenAi { url: Some("http://localhost:11434/v1"), key: None }),
    ("ollama_chat", Reach::OpenAi { url: Some("http://localhost:11434/v1"), key: None }),
    ("hosted_vllm", OWN_SERVER),
    ("openai_like", OWN_SERVER),
    ("custom_openai", OWN_SERVER),
    ("lm_studio", OWN_SERVER),
    ("llamafile", OWN_SERVER),
    ("xinference", OWN_SERVER),
    ("litellm_proxy", OWN_SERVER),
    ("bedrock", Reach::No(SIGNED)),
    ("bedrock_converse", Reach::No(SIGNED)),
    ("sagemaker", Reach::No(SIGNED)),
    ("sagemaker_chat", Reach::No(SIGNED)),
    ("vertex_ai", Reach::No(SIGNED)),
    ("vertex_ai_beta", Reach::No(SIGNED)),
    ("watsonx", Reach::No(SIGNED)),
    ("gemini", at("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY")),
    ("perplexity", at("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY")),
    ("deepinfra", at("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY")),
    ("databricks", Reach::OpenAi { url: None, key: Some("DATABRICKS_API_KEY") }),
    ("azure_ai", Reach::No(VERSIONED)),
    ("github", at("https://models.inference.ai.azure.com", "GITHUB_API_KEY")),
    ("cloudflare", Reach::No(OWN_API)),
    ("cohere", Reach::No(OWN_API)),
    ("cohere_chat", Reach::No(OWN_API)),
    ("huggingface", Reach::No(OWN_API)),
    ("replicate", Reach::No(OWN_API)),
    ("vllm", Reach::No("runs inside LiteLLM's process; serve the model with vLLM's own server; left out")),
];

/// The provider of LiteLLM's `model`, the model's name at the provider, and how to reach it. `named` is
/// `custom_llm_provider`, where the file has it.
pub fn provider<'m>(model: &'m str, named: Option<&'m str>) -> (&'m str, &'m str, Reach) {
    let row = |name: &str| PROVIDERS.iter().find(|(known, _)| *known == name).map(|(_, reach)| *reach);
    if let Some(name) = named {
        let rest = model.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')).unwrap_or(model);
        return (name, rest, row(name).unwrap_or(Reach::No(OWN_API)));
    }
    match model.split_once('/') {
        Some((name, rest)) if row(name).is_some() => (name, rest, row(name).unwrap_or(OWN_SERVER)),
        // A LiteLLM prefix that is missing in the table would otherwise silently become an OpenAI model.
        Some((name, rest)) => (name, rest, Reach::No("is a provider that is not known here; left out")),
        // LiteLLM recognizes the models of a few providers by name.
        None if model.starts_with("claude-") => ("anthropic", model, row("anthropic").unwrap_or(OWN_SERVER)),
        None => ("openai", model, row("openai").unwrap_or(OWN_SERVER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_the_provider() {
        assert_eq!(provider("groq/llama-3.3-70b-versatile", None).0, "groq");
        assert_eq!(provider("openrouter/google/gemma-2", None).1, "google/gemma-2");
        assert_eq!(provider("claude-3-5-haiku-latest", None).0, "anthropic");
        assert_eq!(provider("gpt-4o", None).1, "gpt-4o");
        assert_eq!(provider("openai/gpt-4o", Some("openai")).1, "gpt-4o");
        assert!(matches!(provider("bedrock/anthropic.claude-v2", None).2, Reach::No(_)));
        assert!(matches!(provider("nobody/x", None).2, Reach::No(_)));
        assert!(matches!(provider("x", Some("nobody")).2, Reach::No(_)));
    }
}
