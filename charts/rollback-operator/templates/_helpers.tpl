{{/* The guard's texts and the permissions name this namespace and the accounts in it. */}}
{{- define "rollback.namespace" -}}
{{- if ne .Release.Namespace "rollback-system" -}}
{{- fail (printf "The approval guard is written for the namespace rollback-system, not for %s: helm install -n rollback-system --create-namespace ..." .Release.Namespace) -}}
{{- end -}}
rollback-system
{{- end -}}

{{- define "rollback.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/part-of: rollback-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An object of files/ with the labels of the chart; its own count more. Takes root and object. */}}
{{- define "rollback.object" -}}
{{- $own := default dict .object.metadata.labels -}}
{{- $_ := set .object.metadata "labels" (merge (deepCopy $own) (include "rollback.labels" .root | fromYaml)) -}}
{{- toYaml .object -}}
{{- end -}}

{{/* Takes root and image. */}}
{{- define "rollback.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* A Deployment of files/ with what the values say of it. Takes root, object and values. */}}
{{- define "rollback.deployment" -}}
{{- $template := .object.spec.template -}}
{{- $pod := $template.spec -}}
{{- $container := index $pod.containers 0 -}}
{{- $values := .values -}}
{{- $_ := set .object.spec "replicas" (int $values.replicaCount) -}}
{{- $_ := set $container "image" (include "rollback.image" (dict "root" .root "image" $values.image)) -}}
{{- $_ := set $container "imagePullPolicy" $values.image.pullPolicy -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- with $values.extraArgs -}}
{{- $_ := set $container "args" (concat (default list $container.args) .) -}}
{{- end -}}
{{- with $values.extraEnv -}}
{{- $_ := set $container "env" (concat (default list $container.env) .) -}}
{{- end -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with index $values $key -}}
{{- $_ := set $pod $key . -}}
{{- end -}}
{{- end -}}
{{- with .root.Values.imagePullSecrets -}}
{{- $_ := set $pod "imagePullSecrets" . -}}
{{- end -}}
{{- $labels := include "rollback.labels" .root | fromYaml -}}
{{- $_ := set $template.metadata "labels" (merge (deepCopy $template.metadata.labels) $values.podLabels (pick $labels "app.kubernetes.io/part-of" "app.kubernetes.io/version") .root.Values.commonLabels) -}}
{{- with $values.podAnnotations -}}
{{- $_ := set $template.metadata "annotations" . -}}
{{- end -}}
{{- include "rollback.object" (dict "root" .root "object" .object) -}}
{{- end -}}

{{/* All objects of a folder of files/, with the labels of the chart. Takes root and folder. */}}
{{- define "rollback.folder" -}}
{{- $root := .root -}}
{{- range $path, $bytes := $root.Files.Glob (printf "files/%s/*.yaml" .folder) }}
---
{{ include "rollback.object" (dict "root" $root "object" ($bytes | toString | fromYaml)) }}
{{- end }}
{{- end -}}
